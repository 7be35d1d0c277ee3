import { basename, dirname, join } from 'node:path'
import type * as contract from '../index.js'
import { acquireLock, acquireLockSync } from './acquire.js'
import { releaseLock, releaseLockSync, withoutNulls } from './lock.js'
import { native, resultOf, settled } from './native.js'
import { acquireOptions, breakOptions } from './options.js'
import { LockError as SharedLockError } from './shared/errors.js'
import { holderProcess } from './shared/holder-process.js'
import { createWithLock } from './shared/with-lock.js'

const LockError: typeof contract.LockError = SharedLockError
const withLock = createWithLock({ acquireLock, shorthand: 'cwd', identify }) as typeof contract.withLock

/** A lock has one path in its real directory. */
async function identify(asked: contract.AcquireOptions): Promise<string> {
  const { cwd, file } = acquireOptions('withLock', [asked])
  const { realpath } = require('node:fs/promises') as typeof import('node:fs/promises')
  const path = resultOf(native.resolvePath(cwd, file))
  const real = await realpath(dirname(path)).catch(() => dirname(path))
  return join(real, basename(path))
}

async function inspectLock(...args: unknown[]): Promise<contract.LockStatus> {
  const { cwd, file } = acquireOptions('inspectLock', args)
  return withProcess(withoutNulls(await settled(native.inspect(cwd, file))))
}

function inspectLockSync(...args: unknown[]): contract.LockStatus {
  const { cwd, file } = acquireOptions('inspectLockSync', args)
  return withProcess(withoutNulls(resultOf(native.inspectSync(cwd, file))))
}

const withProcess = (status: contract.LockStatus): contract.LockStatus =>
  status.state === 'held' ? { ...status, ...holderProcess(status.path, status.holder) } : status

async function breakLock(...args: unknown[]): Promise<boolean> {
  const { cwd, file, message, force } = breakOptions(args)
  return settled(native.breakLock(cwd, file, message, force))
}

function resolveLockPath(...args: unknown[]): string {
  const { cwd, file } = acquireOptions('resolveLockPath', args)
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
