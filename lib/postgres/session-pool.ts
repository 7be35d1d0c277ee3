import { clearTimeout, delay, MAX_TIMER_MS, monotonic, setTimeout } from '../shared/clock.js'
import { LockError, lockError } from '../shared/errors.js'
import { codeOf, SQLSTATE } from './errors.js'
import { assertDedicatedSession } from './pooler.js'
import { END_CHECK_MS, END_TIMEOUT_MS, Session } from './session.js'
import type { Settings } from './settings.js'
import { endMarkedSession, endSession } from './sql.js'

/** How long an idle session stays open, in milliseconds, and how many do. */
const IDLE_TIMEOUT_MS = 5000
const MAX_IDLE = 2

/** A call that waits for a session: it gets an idle one, or permission to open one. */
interface Waiter {
  wake(session: Session | undefined): void
}

/** Called with a function that ends the wait when a call starts to wait, and without an argument when it is over. */
type OnWait = (endWait?: () => void) => void

/** The sessions of one database: at most `maxConnections`. A few stay idle, as opening one costs more than a lock. */
export class SessionPool {
  readonly settings: Settings
  readonly #idle = new Map<Session, NodeJS.Timeout>()
  readonly #waiters = new Set<Waiter>()
  /** Lost sessions that the server may still have. */
  readonly #lost = new Set<Session>()
  #ending: Promise<void> | undefined
  #open = 0
  #keepsSessions: Promise<void> | undefined
  #hasWarned = false
  #first: Promise<void> | undefined

  constructor(settings: Settings) {
    this.settings = settings
  }

  /**
   * Returns a session that has answered the first query, as an idle one may have ended. It must be checked in again.
   * @param milliseconds how long to wait if `maxConnections` are in use
   */
  async checkOut<T>(
    first: (session: Session) => Promise<T>,
    milliseconds: number,
    onWait: OnWait = () => {},
  ): Promise<{ session: Session; answer: T }> {
    const idle = await this.#takeIdleOrWait(milliseconds, onWait)
    onWait()
    if (idle) {
      try {
        return { session: idle, answer: await first(idle) }
      } catch (error) {
        if (!idle.isEnded) {
          await leave(idle, error)
          throw error
        }
        this.#lost.add(idle)
        return this.checkOut(first, milliseconds, onWait)
      }
    }
    const session = await this.#fill()
    try {
      return { session, answer: await first(session) }
    } catch (error) {
      // The server may have run the query although its answer was lost.
      if (session.isEnded) this.terminate(session).catch(() => {})
      else await leave(session, error)
      throw error
    }
  }

  /** Runs one query in a session, and checks the session in again. */
  async query<T>(first: (session: Session) => Promise<T>): Promise<T> {
    const { session, answer } = await this.checkOut(first, this.settings.connectTimeout)
    this.checkIn(session)
    return answer
  }

  /** An idle session, or `undefined` as permission to open one. */
  #takeIdleOrWait(milliseconds: number, onWait: OnWait): Promise<Session | undefined> | Session | undefined {
    // While calls wait, no session is idle, and all connections are in use.
    const idle = this.#takeIdle()
    if (idle) return idle
    if (this.#open < this.settings.maxConnections) {
      this.#open += 1
      return undefined
    }
    return new Promise((resolve, reject) => {
      const refuse = () => {
        clearTimeout(timer)
        this.#waiters.delete(waiter)
        reject(this.exhausted())
      }
      const timer = milliseconds > MAX_TIMER_MS ? undefined : setTimeout(refuse, milliseconds)
      const waiter: Waiter = {
        wake: (session) => {
          clearTimeout(timer)
          resolve(session)
        },
      }
      this.#waiters.add(waiter)
      onWait(refuse)
    })
  }

  /** The error of a call that found no free session. */
  exhausted() {
    const { maxConnections } = this.settings
    const message = `All ${maxConnections} connections are in use by locks that are held or waited for: release some, or raise "maxConnections"`
    return lockError('E_LOCK_CONNECTIONS', 'postgresql:', message, { recoverable: true })
  }

  /** Passes on a free session, or permission to open one. */
  #free(session?: Session): void {
    const [next] = this.#waiters
    if (next) {
      this.#waiters.delete(next)
      next.wake(session)
    } else if (session) this.#keepIdle(session)
    else this.#open -= 1
  }

  async #fill(): Promise<Session> {
    let session: Session
    try {
      session = await this.#openOne()
    } catch (error) {
      this.#free()
      throw error
    }
    if (session.isEnded) this.#free()
    else session.onceEnded = () => this.#forget(session)
    return session
  }

  #forget(session: Session): void {
    clearTimeout(this.#idle.get(session))
    this.#idle.delete(session)
    this.#free()
  }

  /** Opens the first connection alone: its proof that the pooler keeps sessions holds for all. */
  async #openOne(): Promise<Session> {
    if (this.#first) {
      await this.#first
      return this.#openNext()
    }
    const opening = this.#openNext()
    this.#first = opening.then(
      () => {},
      () => {
        this.#first = undefined
      },
    )
    return opening
  }

  async #openNext(): Promise<Session> {
    const session = await Session.open(this.settings)
    try {
      if (session.hasPooler) await this.#proveSessions(session)
      await session.prepare()
      this.#warn(session)
      await this.endLost(session)
      return session
    } catch (error) {
      session.destroy()
      throw error
    }
  }

  /** One proof about the pooler holds for all connections through it. */
  #proveSessions(session: Session): Promise<void> {
    const proof = this.#keepsSessions ?? assertDedicatedSession(session, () => Session.open(this.settings))
    this.#keepsSessions = proof
    proof.catch(() => {
      this.#keepsSessions = undefined
    })
    return proof
  }

  #warn(session: Session): void {
    if (this.#hasWarned || !session.isInClear) return
    this.#hasWarned = true
    const message = `The connection to ${session.serverUrl} is not encrypted: everything on it can be read on the network. sslmode=verify-full protects it`
    process.emitWarning(message, { type: 'SecurityWarning', code: 'RECONCILE_LOCK_CLEARTEXT' })
  }

  #takeIdle(): Session | undefined {
    for (const [session, timer] of this.#idle) {
      clearTimeout(timer)
      this.#idle.delete(session)
      session.markBusy()
      return session
    }
    return undefined
  }

  /** Returns a session that holds no lock to the pool. */
  checkIn(session: Session): void {
    if (!session.isEnded) this.#free(session)
  }

  #keepIdle(session: Session): void {
    if (this.settings.pool) {
      // The pool bounds its clients. The return of one takes a query, for which the next call must not wait.
      session.onceEnded = () => {}
      this.#free()
    }
    if (this.#idle.size >= MAX_IDLE || this.settings.pool) return void session.close()
    session.markIdle()
    const timer = setTimeout(() => void session.close(), IDLE_TIMEOUT_MS)
    this.#idle.set(session, timer.unref())
  }

  /**
   * Ends a session on the server too, which may not have detected the end of its connection. If no connection can be
   * made now, the next one ends it.
   */
  async terminate(session: Session): Promise<void> {
    session.destroy()
    this.#lost.add(session)
    while (this.#lost.has(session)) {
      this.#ending ??= this.#endAllLost().finally(() => {
        this.#ending = undefined
      })
      await this.#ending
    }
  }

  /** By one connection beyond `maxConnections`: other calls may wait for the locks that these sessions hold. */
  async #endAllLost(): Promise<void> {
    const other = await this.#openOne()
    await other.close()
  }

  /** Ends a failed session on the server too, because it may hold a lock. */
  async drop(session: Session): Promise<void> {
    if (session.isEnded) this.terminate(session).catch(() => {})
    else await session.discard()
  }

  /**
   * Ends lost sessions on the server by another one: they may hold the lock that its call waits for.
   * @param silence how long the server may not answer
   */
  async endLost(session: Session, silence?: number): Promise<void> {
    const end = monotonic() + END_TIMEOUT_MS
    for (const lost of this.#lost) {
      this.#lost.delete(lost)
      const { marks } = lost
      const statement = marks.length > 2 ? endMarkedSession : endSession
      try {
        while ((await session.query<boolean>(statement, marks, 0, silence)) && monotonic() < end)
          await delay(END_CHECK_MS)
      } catch (error) {
        // The server ends the session later if this role may not.
        if (codeOf(error) === SQLSTATE.insufficientPrivilege) continue
        this.#lost.add(lost)
        throw error
      }
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#idle.keys()].map((session) => session.close()))
  }
}

/** Leaves a session whose first query has failed. It may hold a lock, unless this package has refused the call. */
const leave = (session: Session, error: unknown): Promise<void> =>
  error instanceof LockError ? session.close() : session.discard()
