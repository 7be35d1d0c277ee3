import { warn } from '../shared/errors.js'
import { process } from '../shared/globals.js'

interface HeldLock {
  readonly shared: boolean
  isHeld(): boolean
  release(): Promise<void>
  isOf(sessions: unknown, name: string): boolean
}

/** The locks that this thread holds. */
const heldLocks = new Set<HeldLock>()

/** Held locks do not keep the process running, but these releases at its end do. */
function releaseAll(): void {
  for (const lock of [...heldLocks]) lock.release().catch(warn)
}

/** A process that has nothing left to do releases its locks; after any other end, the server does. */
export function track(lock: HeldLock): void {
  heldLocks.add(lock)
  // A frozen process throws. The server then releases the locks, as after any other end.
  try {
    if (heldLocks.size === 1) process.on('beforeExit', releaseAll)
  } catch {}
}

export function untrack(lock: HeldLock): void {
  heldLocks.delete(lock)
  try {
    if (heldLocks.size === 0) process.removeListener('beforeExit', releaseAll)
  } catch {}
}

/** The lock with this name from this pool of sessions: one that is held before one that is lost or being released. */
export function find(sessions: unknown, name: string): HeldLock | undefined {
  let other: HeldLock | undefined
  for (const lock of heldLocks) {
    if (!lock.isOf(sessions, name)) continue
    if (lock.isHeld()) return lock
    other ??= lock
  }
  return other
}
