import { basename, dirname, join } from 'node:path'
import type { JsStatus } from '../binding.js'
import type * as contract from '../index.js'
import { acquireLock, acquireLockSync } from './acquire.js'
import { throwIfAborted } from './acquire-call.js'
import { Lock, releaseLock, releaseLockSync, withoutNulls } from './lock.js'
import { native, resultOf, settled, unrefCall } from './native.js'
import { acquireOptions, breakOptions, settingsOf, targetOptions } from './options.js'
import { abortable } from './shared/abortable.js'
import { clearTimeout, MAX_TIMER_MS, setTimeout } from './shared/clock.js'
import { LockError as SharedLockError } from './shared/errors.js'
import { createWithLock } from './shared/with-lock.js'

const LockError: typeof contract.LockError = SharedLockError
/** The process may end before: its exit waits a moment for pending work. */
const rollBack = async (lock: contract.Lock) => void (await unrefCall(Lock.rollBack(lock)))

const kind = { acquireLock, rollBack, shorthand: 'cwd', identify }
const withLock = createWithLock(kind) as typeof contract.withLock

/** A lock has one path in its real directory. */
async function identify(asked: contract.AcquireOptions) {
  const { cwd, file, timeout, signal } = acquireOptions('withLock', [asked])
  throwIfAborted(signal)
  const path = resultOf(native.resolvePath(cwd, file))
  const find = () => realDirectory(dirname(path), timeout)
  const call = { isAborted: false, abort() {} }
  const real = await (signal ? abortable(find, signal, call, async () => {}) : find())
  return { key: join(real, basename(path)), options: { ...asked, cwd: undefined, file: path } }
}

/** The real path of a directory, or the path itself if the disk does not answer in time: its lock is refused then. */
async function realDirectory(directory: string, timeout: number): Promise<string> {
  // As in `load.ts`.
  const { realpath } =
    process.getBuiltinModule?.('node:fs/promises') ??
    (require('node:fs/promises') as typeof import('node:fs/promises'))
  const real = realpath(directory).catch(() => directory)
  if (!timeout || timeout > MAX_TIMER_MS) return real
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, timeout, directory)
  })
  return Promise.race([real, late]).finally(() => clearTimeout(timer))
}

async function inspectLock(...args: unknown[]): Promise<contract.LockStatus> {
  const options = targetOptions('inspectLock', args)
  return statusOf(await settled(native.inspect(options.cwd, options.file, settingsOf(options))))
}

function inspectLockSync(...args: unknown[]): contract.LockStatus {
  const options = targetOptions('inspectLockSync', args)
  return statusOf(resultOf(native.inspectSync(options.cwd, options.file, settingsOf(options))))
}

function statusOf({ readers, ...found }: JsStatus): contract.LockStatus {
  const named = readers?.map((reader) => withoutNulls<contract.Reader>(reader))
  return { ...withoutNulls<contract.LockStatus>(found), ...(named && { readers: named }) }
}

async function breakLock(...args: unknown[]): Promise<boolean> {
  const options = breakOptions(args)
  const { cwd, file, message, force } = options
  return settled(native.breakLock(cwd, file, message, settingsOf(options), force))
}

function resolveLockPath(...args: unknown[]): string {
  const { cwd, file } = targetOptions('resolveLockPath', args)
  return resultOf(native.resolvePath(cwd, file))
}

// Only names: Node.js finds the named exports of a CommonJS module by parsing it, without running it.
export = {
  LockError,
  acquireLock,
  acquireLockSync,
  breakLock,
  inspectLock,
  inspectLockSync,
  releaseLock,
  releaseLockSync,
  resolveLockPath,
  withLock,
} satisfies typeof contract
