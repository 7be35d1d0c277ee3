import { onAbort } from './abort.js'
import { clearTimeout, setTimeout } from './clock.js'

/** How long a rejected call waits for the rollback of a pending attempt, in milliseconds. */
const ROLLBACK_GRACE_MS = 25

export interface AbortableCall {
  isAborted: boolean
  /** @param rolledBack resolves when the call has no pending operation */
  abort(rolledBack: Promise<unknown>): void
}

/**
 * Rejects a call that acquires a lock when its signal is aborted; it must not be aborted yet. If the call acquires the
 * lock later, that lock is rolled back.
 * @param acquire is not called if the signal accepts no listener
 */
export function abortable<T>(
  acquire: () => Promise<T>,
  signal: AbortSignal,
  call: AbortableCall,
  rollBack: (lock: T) => Promise<unknown>,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const rollBackAcquired = async () => {
      // A subscriber can abort the call during `acquire`, before its promise is there.
      await undefined
      return rollBack(await acquiring)
    }
    const removeCallback = onAbort(signal, () => {
      const rolledBack = rollBackAcquired()
      call.abort(rolledBack)
      releaseLateAcquire(rolledBack).then(() => reject(signal.reason))
    })
    const acquiring = acquire()
    const unlessAborted =
      <V>(settle: (value: V) => void) =>
      (value: V) => {
        if (call.isAborted) return
        settle(value)
        removeCallback()
      }
    acquiring.then(unlessAborted(resolve), unlessAborted(reject))
  })
}

/** Waits for a rollback, so that the lock is free for the caller; briefly, because a disk or a server may hang. */
export async function releaseLateAcquire(rolledBack: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ROLLBACK_GRACE_MS)
  })
  await Promise.race([rolledBack.catch(() => {}), late])
  clearTimeout(timer)
}
