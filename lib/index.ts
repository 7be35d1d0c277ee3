import type { JsStatus } from '../binding.js'
import type * as contract from '../index.js'
import { acquireLock, within } from './acquire.js'
import { AcquireCall, throwIfAborted } from './acquire-call.js'
import { acquireLockSync } from './acquire-sync.js'
import { Lock, releaseLock, releaseLockSync, withoutNulls } from './lock.js'
import { native, resultOf, settled, unrefCall } from './native.js'
import { acquireOptions, breakOptions, settingsOf, targetOptions } from './options.js'
import { abortable } from './shared/abortable.js'
import { MAX_TIMER_MS } from './shared/clock.js'
import { LockError } from './shared/errors.js'
import { createWithLock } from './shared/with-lock.js'

/** The process may end before: its exit waits a moment for pending work. */
const rollBack = async (lock: contract.Lock) => void (await unrefCall(Lock.rollBack(lock)))

const kind = { acquireLock, rollBack, shorthand: 'cwd', identify }
const withLock = createWithLock(kind) as typeof contract.withLock

/** A lock has one path in its real directory. */
async function identify(asked: contract.AcquireOptions) {
  const options = acquireOptions('withLock', [asked])
  const { cwd, file, signal } = options
  throwIfAborted(signal)
  const path = resultOf(native.resolvePath(cwd, file))
  const call = new AcquireCall(options)
  const find = () => realPath(path, options.timeout, call)
  const key = await (signal ? abortable(find, signal, call, async () => {}) : find())
  return { key, options: { ...asked, cwd: undefined, file: path } }
}

function realPath(path: string, timeout: number, call: AcquireCall): Promise<string> {
  const real = settled(native.realPath(undefined, path))
  if (!timeout || timeout > MAX_TIMER_MS) return real
  return within(real, call.remainingForAnswers, () => {
    unrefCall(real).catch(() => {})
    return call.unanswered(path)
  })
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
