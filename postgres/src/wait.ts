import { delay, monotonic } from './clock.js'
import { halves } from './key.js'
import type { Session } from './session.js'
import type { Sessions } from './sessions.js'
import { cancel, holds, lockWithin } from './sql.js'

/**
 * How long a statement may wait, in milliseconds: while it does, the server keeps every row version that it could
 * see. Between two of them the place in the queue is lost.
 */
const SLICE = 60_000

/** When a wait is cancelled again, in milliseconds: a signal that comes before its statement is lost. */
const AGAIN = 20
const MOST_TRIES = 50

/** How PostgreSQL says that `lock_timeout` has passed, and that a statement was cancelled. */
const LOCK_NOT_AVAILABLE = '55P03'
const QUERY_CANCELED = '57014'

/** The wait of one session for a lock, by the server's own queue. */
export class Wait {
  readonly #sessions: Sessions
  readonly #session: Session
  readonly #key: bigint
  #isCancelled = false
  #isOver = true
  /** Settles with the statement that waits. */
  #over: Promise<unknown> = Promise.resolve()

  constructor(sessions: Sessions, session: Session, key: bigint) {
    this.#sessions = sessions
    this.#session = session
    this.#key = key
  }

  /**
   * Says whether the lock is held now; not if the time has passed or the wait was cancelled. A session whose wait was
   * cancelled is of no further use: the next statement may be cancelled too.
   * @param milliseconds never less, and more only by the way of the answer
   */
  for(milliseconds: number): Promise<boolean> {
    const waiting = this.#slices(milliseconds)
    this.#isOver = false
    this.#over = waiting
      .catch(() => {})
      .then(() => {
        this.#isOver = true
      })
    return waiting
  }

  async #slices(milliseconds: number): Promise<boolean> {
    const end = monotonic() + milliseconds
    for (let left = milliseconds; left > 0 && !this.#isCancelled; left = end - monotonic()) {
      const slice = Math.ceil(Math.min(left, SLICE))
      try {
        return await this.#session.ask<boolean>(lockWithin(this.#key, slice), undefined, slice)
      } catch (error) {
        const { code } = error as { code?: unknown }
        if (code === QUERY_CANCELED && this.#isCancelled) return false
        if (code !== LOCK_NOT_AVAILABLE) throw error
        // The time can pass after the server has granted the lock and before the session has woken: then it fails and
        // holds the lock (`LockErrorCleanup` in PostgreSQL's storage/lmgr/proc.c).
        if (await this.#session.ask<boolean>(holds, halves(this.#key))) return true
      }
    }
    return false
  }

  cancel(): void {
    this.#isCancelled = true
    if (!this.#isOver) void this.#cancel()
  }

  async #cancel(): Promise<void> {
    const { backend } = this.#session
    try {
      for (let tries = 0; tries < MOST_TRIES && !this.#isOver; tries += 1) {
        await this.#sessions.ask((other) => other.ask(cancel, [backend]))
        await Promise.race([this.#over, delay(AGAIN)])
      }
    } catch {
      // No other session is to be had: the server notices that nobody waits any more.
    }
    if (!this.#isOver) this.#session.destroy()
  }
}
