import type { HeldLock } from './lock.js'

/** The locks that this thread holds. */
const held = new Set<HeldLock>()

/** The sockets of locks do not keep the process running, but what they have to say at its end does. */
function releaseAll(): void {
  for (const lock of [...held]) lock.release().catch((error) => process.emitWarning(error))
}

/** A process that has nothing more to do releases its locks. A harder end leaves that to the server. */
export function add(lock: HeldLock): void {
  if (held.size === 0) process.on('beforeExit', releaseAll)
  held.add(lock)
}

export function remove(lock: HeldLock): void {
  held.delete(lock)
  if (held.size === 0) process.removeListener('beforeExit', releaseAll)
}

/** The lock of that name that was acquired by those sessions. */
export function find(sessions: unknown, name: string): HeldLock | undefined {
  for (const lock of held) if (lock.isOf(sessions, name)) return lock
  return undefined
}
