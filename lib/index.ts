import { basename, dirname, join } from 'node:path'
import type { JsStatus } from '../binding.js'
import type * as contract from '../index.js'
import { acquireLock, acquireLockSync } from './acquire.js'
import { Lock, releaseLock, releaseLockSync, withoutNulls } from './lock.js'
import { native, resultOf, settled, unrefCall } from './native.js'
import { acquireOptions, breakOptions, settingsOf, targetOptions } from './options.js'
import { LockError as SharedLockError } from './shared/errors.js'
import { createWithLock } from './shared/with-lock.js'

const LockError: typeof contract.LockError = SharedLockError
/** The process may end before: its exit waits a moment for pending work. */
const rollBack = async (lock: contract.Lock) => void (await unrefCall(Lock.rollBack(lock)))

const kind = { acquireLock, rollBack, shorthand: 'cwd', identify }
const withLock = createWithLock(kind) as typeof contract.withLock

/** A lock has one path in its real directory. */
async function identify(asked: contract.AcquireOptions) {
  const { cwd, file } = acquireOptions('withLock', [asked])
  const { realpath } = require('node:fs/promises') as typeof import('node:fs/promises')
  const path = resultOf(native.resolvePath(cwd, file))
  const real = await realpath(dirname(path)).catch(() => dirname(path))
  return { key: join(real, basename(path)), options: { ...asked, cwd: undefined, file: path } }
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
