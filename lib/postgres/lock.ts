import type { PostgresHolder, PostgresLock, PostgresTakenOver } from '../../postgres.js'
import { publishEnded } from '../shared/channels.js'
import { delay } from '../shared/clock.js'
import { lockError, lossError } from '../shared/errors.js'
import * as held from './held-locks.js'
import { halves } from './key.js'
import type { LockTable, Recorded } from './lock-table.js'
import { describeStaleHolder, publicHolder } from './lock-view.js'
import type { Session } from './session.js'
import type { SessionPool } from './session-pool.js'
import { holds, unlockShared, unlockWithoutRow } from './sql.js'

/** How long a reconnect may take, in milliseconds. */
const RECONNECT_TIMEOUT_MS = 2000

const UNKNOWN = new Error('its session does not hold it')

/** The parts of a lock. */
export interface Acquired {
  session: Session
  sessions: SessionPool
  table: LockTable
  name: string
  key: bigint
  shared: boolean
  path: string
  recorded: Recorded
}

/** A lock that a session of this process holds. */
export class HeldLock {
  readonly path: string
  readonly name: string
  /** Whether other processes may hold it too, in shared mode. */
  readonly shared: boolean
  readonly token: bigint
  readonly holder: PostgresHolder
  readonly takenOver: PostgresTakenOver | undefined
  readonly signal: AbortSignal
  readonly #acquired: Acquired
  readonly #loss = new AbortController()
  #isReleased = false
  /** The pending release. */
  #released: Promise<void> | undefined

  constructor(acquired: Acquired) {
    const { holder, previousHolder } = acquired.recorded
    this.#acquired = acquired
    this.path = acquired.path
    this.name = acquired.name
    this.shared = acquired.shared
    this.token = BigInt(holder.token)
    this.holder = publicHolder(holder)
    const previous = previousHolder && publicHolder(previousHolder)
    this.takenOver = previous ? { holder: previous, reason: describeStaleHolder(previous) } : undefined
    this.signal = this.#loss.signal
    acquired.session.monitor((error) => this.#markLost(error))
    held.track(this)
  }

  isOf(sessions: unknown, name: string): boolean {
    return this.#acquired.sessions === sessions && this.name === name
  }

  /** The methods are bound to the lock, because programs pass them as callbacks. */
  readonly isHeld = (): boolean => !this.#isReleased && !this.signal.aborted

  readonly release = (): Promise<void> => {
    this.#released ??= this.#end()
    return this.#released
  }

  readonly confirm = (): Promise<void> => this.#confirm()

  /** The token is a string, because JSON has no `bigint`. */
  toJSON() {
    const { path, name, token, holder, takenOver } = this
    return { path, name, token: String(token), holder, ...(takenOver && { takenOver }) }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.release()
  }

  #markLost(error: Error): void {
    if (this.signal.aborted) return
    const reason = `its session has ended (${error.message})`
    publishEnded(this, { reason })
    this.#loss.abort(lossError(this.path, reason, error))
  }

  async #confirm(): Promise<void> {
    const { session, key } = this.#acquired
    if (this.#isReleased && !this.signal.aborted) {
      const message = `The lock was released before: ${this.path}`
      throw lockError('E_LOCK_LOST', this.path, message, { reason: 'it was released' })
    }
    try {
      if (this.isHeld() && !(await session.query<boolean>(holds, halves(key)))) this.#markLost(UNKNOWN)
    } catch (error) {
      if (!session.isEnded) throw error
      // A release that is under way has turned off the monitor.
      this.#markLost(error as Error)
    }
    this.signal.throwIfAborted()
  }

  async #end(): Promise<void> {
    try {
      if (!this.#isReleased) await this.#release()
    } finally {
      held.untrack(this)
      this.#released = undefined
    }
  }

  async #release(): Promise<void> {
    this.#isReleased = true
    const { session, sessions, table, key } = this.#acquired
    if (this.signal.aborted) return this.#terminateSession()
    session.markBusy()
    try {
      const isReleased = await (this.shared
        ? session.query<boolean>(unlockShared(key))
        : table.release(session, key, this.token))
      if (!isReleased) this.#markLost(UNKNOWN)
    } catch (error) {
      if (!session.isEnded) return this.#releaseWithoutRow(error)
      this.#markLost(error as Error)
    }
    if (this.signal.aborted) return this.#terminateSession()
    publishEnded(this)
    sessions.checkIn(session)
  }

  /** Ends the lock without its row; the next holder then reports a take-over. */
  async #releaseWithoutRow(error: unknown): Promise<never> {
    const { session, sessions, key } = this.#acquired
    try {
      await session.query(this.shared ? unlockShared(key) : unlockWithoutRow(key))
      sessions.checkIn(session)
    } catch {
      await sessions.drop(session)
    }
    publishEnded(this)
    throw error
  }

  /** Ends the session on the server too, so that it does not block other processes. */
  async #terminateSession(): Promise<never> {
    const { session, sessions } = this.#acquired
    const ending = sessions.terminate(session).catch(() => {})
    // An unreachable server detects the end by itself; the call does not wait for that.
    await Promise.race([ending, delay(RECONNECT_TIMEOUT_MS, undefined, { ref: false })])
    throw this.signal.reason
  }

  /** Rolls back an acquire whose call is rejected. */
  static async rollBack(lock: PostgresLock): Promise<void> {
    const mine = lock as unknown as HeldLock
    const { session, sessions, table, key, recorded } = mine.#acquired
    if (mine.#isReleased || mine.shared || mine.signal.aborted || !recorded.previousHolder)
      return mine.release()
    mine.#isReleased = true
    held.untrack(mine)
    session.markBusy()
    publishEnded(mine)
    // If this fails, the next holder gets this process as the previous holder.
    await table.restore(session, key, recorded).catch(() => {})
    await sessions.drop(session)
  }
}
