interface HeldLock {
  release(): Promise<void>
  isOf(sessions: unknown, name: string): boolean
}

/** The locks that this thread holds. */
const heldLocks = new Set<HeldLock>()

/** The sockets of idle locks do not keep the process running, but the releases at its end do. */
function releaseAll(): void {
  for (const lock of [...heldLocks]) lock.release().catch((error) => process.emitWarning(error))
}

/** A process that has nothing more to do releases its locks. A harder end leaves that to the server. */
export function track(lock: HeldLock): void {
  if (heldLocks.size === 0) process.on('beforeExit', releaseAll)
  heldLocks.add(lock)
}

export function untrack(lock: HeldLock): void {
  heldLocks.delete(lock)
  if (heldLocks.size === 0) process.removeListener('beforeExit', releaseAll)
}

/** The lock of that name that was acquired by those sessions. */
export function find(sessions: unknown, name: string): HeldLock | undefined {
  for (const lock of heldLocks) if (lock.isOf(sessions, name)) return lock
  return undefined
}
