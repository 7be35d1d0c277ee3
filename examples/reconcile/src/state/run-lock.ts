import { inspectLock, type LockStatus, type TakenOver } from 'reconcile-lock'
import type { PostgresLocks } from 'reconcile-lock/postgres'
import { acquireLock } from './lock.js'

/** The lock of a run: on a file of its directory or, for several machines, on PostgreSQL. */
export interface Place {
  dir: string
  lockUrl?: string | undefined
}

export interface RunLock {
  takenOver?: TakenOver | undefined
  /** A later run has a higher token. A lock file has none, because the kernel ends its lock with the process. */
  token?: bigint
  /** Aborted when the lock may have been lost: then another run may have acquired it. */
  signal: AbortSignal
  release(): Promise<void>
}

export async function acquireRunLock({ dir, lockUrl }: Place): Promise<RunLock> {
  if (lockUrl === undefined) {
    const lock = await acquireLock(dir)
    const { takenOver, signal, release } = lock
    return { takenOver, signal, release }
  }
  const locks = await locksAt(lockUrl)
  const close = () => locks.close()
  try {
    const lock = await locks.acquireLock()
    const { takenOver, token, signal } = lock
    return { takenOver, token, signal, release: () => lock.release().finally(close) }
  } catch (error) {
    await close()
    throw error
  }
}

export async function inspectRunLock({ dir, lockUrl }: Place): Promise<Pick<LockStatus, 'state' | 'reason'>> {
  if (lockUrl === undefined) return inspectLock(dir)
  const locks = await locksAt(lockUrl)
  try {
    return await locks.inspectLock()
  } finally {
    await locks.close()
  }
}

/** Loaded only if it is used. */
async function locksAt(connectionString: string): Promise<PostgresLocks> {
  const { postgresLocks } = await import('reconcile-lock/postgres')
  return postgresLocks({ connectionString })
}
