// Valid code of a TypeScript program that is a CommonJS module; compiled, not run.
import lock = require('reconcile-lock')

import { acquireLock, LockError } from 'reconcile-lock'

export async function run(): Promise<string> {
  const held: lock.Lock = await acquireLock({ timeout: 5 })
  held[Symbol.dispose]()
  const status: lock.LockStatus = lock.inspectLockSync()
  return status.state
}

export const isContention = (error: unknown): boolean =>
  error instanceof LockError && error.code === 'E_LOCK_CONTENTION'
