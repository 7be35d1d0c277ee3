import { delay } from './clock.js'
import * as held from './held.js'
import { halves } from './key.js'
import { endOf, publicHolder, type Recorded, type Rows } from './rows.js'
import type { Session } from './session.js'
import type { Sessions } from './sessions.js'
import { channels, lockError } from './shared.js'
import { abandon, holds } from './sql.js'
import type { PostgresHolder, PostgresLock, PostgresTakenOver } from './types.js'

/** How long it may take to reach the server again, in milliseconds. */
const REACHABLE = 2000

const UNKNOWN = new Error('the server knows nothing of it')

/** What a lock is made of. */
export interface Acquired {
  session: Session
  sessions: Sessions
  rows: Rows
  name: string
  key: bigint
  path: string
  recorded: Recorded
}

/** A lock that a session of this process holds. */
export class HeldLock {
  readonly path: string
  readonly name: string
  readonly token: bigint
  readonly holder: PostgresHolder
  readonly takenOver: PostgresTakenOver | undefined
  readonly signal: AbortSignal
  readonly #acquired: Acquired
  readonly #loss = new AbortController()
  #isReleased = false

  constructor(acquired: Acquired) {
    const { holder, before } = acquired.recorded
    this.#acquired = acquired
    this.path = acquired.path
    this.name = acquired.name
    this.token = BigInt(holder.token)
    this.holder = publicHolder(holder)
    const left = before && publicHolder(before)
    this.takenOver = left ? { holder: left, reason: endOf(left) } : undefined
    this.signal = this.#loss.signal
    acquired.session.watch((error) => this.#lose(error))
    held.add(this)
  }

  /** What names it for another call. */
  get asked(): { name: string } {
    return { name: this.name }
  }

  isOf(sessions: unknown, name: string): boolean {
    return this.#acquired.sessions === sessions && this.name === name
  }

  /** This and `release` are bound to the lock, as programs pass them on. */
  readonly isHeld = (): boolean => !this.#isReleased && !this.signal.aborted

  readonly release = (): Promise<void> => this.#release()

  readonly confirm = (): Promise<void> => this.#confirm()

  /** JSON has no `bigint`. */
  toJSON() {
    const { path, name, token, holder, takenOver } = this
    return { path, name, token: String(token), holder, ...(takenOver && { takenOver }) }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release()
  }

  #lose(error: Error): void {
    const reason = `because its session has ended (${error.message})`
    const message = `The lock was lost while it was held, ${reason}: ${this.path}`
    channels.ended(this, { reason })
    this.#loss.abort(lockError('E_LOCK_LOST', this.path, message, { reason, cause: error }))
  }

  #end(): void {
    this.#isReleased = true
    held.remove(this)
  }

  async #confirm(): Promise<void> {
    const { session, key } = this.#acquired
    if (this.#isReleased && !this.signal.aborted) {
      const message = `The lock was released before: ${this.path}`
      throw lockError('E_LOCK_LOST', this.path, message, { reason: 'because it was released' })
    }
    try {
      if (this.isHeld() && !(await session.ask<boolean>(holds, halves(key)))) this.#lose(UNKNOWN)
    } catch (error) {
      if (!session.isEnded) throw error
    }
    this.signal.throwIfAborted()
  }

  async #release(): Promise<void> {
    if (this.#isReleased) return
    this.#end()
    const { session, sessions, rows, key } = this.#acquired
    if (this.signal.aborted) return this.#giveUp()
    session.use()
    try {
      if (!(await rows.release(session, key, this.token))) this.#lose(UNKNOWN)
    } catch (error) {
      if (!session.isEnded) return this.#abandon(error)
      this.#lose(error as Error)
    }
    if (this.signal.aborted) return this.#giveUp()
    channels.ended(this)
    sessions.giveBack(session)
  }

  /** The row was not written, so that the next run will be told of this one; the lock ends all the same. */
  async #abandon(error: unknown): Promise<never> {
    const { session, sessions, key } = this.#acquired
    try {
      await session.ask(abandon(key))
      sessions.giveBack(session)
    } catch {
      await session.close()
    }
    channels.ended(this)
    throw error
  }

  /** What is left of the session must not keep others out, now that nobody relies on it. */
  async #giveUp(): Promise<never> {
    const { session, sessions } = this.#acquired
    const ending = sessions.giveUp(session).catch(() => {})
    // A server that cannot be reached notices by itself, and nobody need wait for that.
    await Promise.race([ending, delay(REACHABLE, undefined, { ref: false })])
    throw this.signal.reason
  }

  /** Ends a lock that the program was never told of. */
  static async giveBack(lock: PostgresLock): Promise<void> {
    const mine = lock as unknown as HeldLock
    const { session, rows, key, recorded } = mine.#acquired
    if (!recorded.before) return mine.release()
    mine.#end()
    session.use()
    channels.ended(mine)
    // Should that fail, the next run is told of this one instead of the one before.
    await rows.restore(session, key, recorded).catch(() => {})
    await session.close()
  }
}
