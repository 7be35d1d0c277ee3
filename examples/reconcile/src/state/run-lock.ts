import { inspectLock, type LockStatus, type TakenOver } from 'reconcile-lock'
import type { PostgresLocks } from 'reconcile-lock/postgres'
import { acquireLock } from './lock.js'

/** Where the lock of a run is: on a file of its directory, or for several machines on PostgreSQL. */
export interface Place {
  dir: string
  lockUrl?: string | undefined
}

export interface RunLock {
  takenOver?: TakenOver | undefined
  /** Of two runs the later one has the higher. The kernel ties a lock file to its run, which needs none. */
  token?: bigint
  /** Aborted when the lock may have been lost: then another run may be at work. */
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

/** Loaded by those alone who use it. */
async function locksAt(connectionString: string): Promise<PostgresLocks> {
  const { postgresLocks } = await import('reconcile-lock/postgres')
  return postgresLocks({ connectionString })
}
