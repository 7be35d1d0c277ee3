import { emitWarning } from 'node:process'
import { clearTimeout, delay, monotonic, setTimeout } from './clock.js'
import type { Settings } from './options.js'
import { refusePooler } from './pooler.js'
import { Session } from './session.js'
import { lockError } from './shared.js'
import { endSession } from './sql.js'

/** How long a session waits for its next use, in milliseconds, and how many do. */
const REST = 5000
const MOST_AT_REST = 2

/** The server signals a session and does not wait for its end: how often it is looked for, and how long, in milliseconds. */
const PERIOD = 5
const UNTIL_ENDED = 5000

/** A call that waits for a session: it gets one that is at rest, or leave to open one. */
interface Turn {
  take(session: Session | undefined): void
}

/** The sessions of one database: no more than `maxConnections`, and a few at rest, as opening one costs more than a lock. */
export class Sessions {
  readonly #settings: Settings
  readonly #atRest = new Map<Session, NodeJS.Timeout>()
  readonly #line = new Set<Turn>()
  /** Sessions that the server may still have. */
  readonly #lost = new Set<Session>()
  #open = 0
  #keepsSessions: Promise<void> | undefined
  #hasWarned = false
  #first: Promise<void> | undefined

  constructor(settings: Settings) {
    this.#settings = settings
  }

  /**
   * A session that has given the first answer: one that had rested may have died meanwhile. It has to be given back.
   * @param milliseconds how long to wait in line if `maxConnections` are in use
   * @param onLine hears at once whether it has to wait in line, and when it has no more
   */
  async begin<T>(
    first: (session: Session) => Promise<T>,
    milliseconds: number,
    onLine: (isInLine: boolean) => void = () => {},
  ): Promise<{ session: Session; answer: T }> {
    const turn = this.#turn(milliseconds)
    onLine(turn instanceof Promise)
    const rested = await turn
    onLine(false)
    if (rested) {
      try {
        return { session: rested, answer: await first(rested) }
      } catch (error) {
        if (!rested.isEnded) {
          await rested.close()
          throw error
        }
        this.#lost.add(rested)
        return this.begin(first, milliseconds)
      }
    }
    const session = await this.#fill()
    try {
      return { session, answer: await first(session) }
    } catch (error) {
      // The server may have done what was asked, although its answer was lost.
      if (session.isEnded) this.giveUp(session).catch(() => {})
      else await session.close()
      throw error
    }
  }

  /** Asks in a session that nobody needs after that. */
  async ask<T>(first: (session: Session) => Promise<T>): Promise<T> {
    const { session, answer } = await this.begin(first, this.#settings.connectTimeout)
    this.giveBack(session)
    return answer
  }

  /** One that is at rest, or leave to open one. */
  #turn(milliseconds: number): Promise<Session | undefined> | Session | undefined {
    const rested = this.#line.size === 0 ? this.#wake() : undefined
    if (rested) return rested
    if (this.#line.size === 0 && this.#open < this.#settings.maxConnections) {
      this.#open += 1
      return undefined
    }
    return new Promise((resolve, reject) => {
      const refuse = () => {
        this.#line.delete(turn)
        reject(this.exhausted())
      }
      const timer = milliseconds > 2 ** 31 - 1 ? undefined : setTimeout(refuse, milliseconds)
      const turn: Turn = {
        take: (session) => {
          clearTimeout(timer)
          resolve(session)
        },
      }
      this.#line.add(turn)
    })
  }

  /** The refusal of a call that has found no session free. */
  exhausted() {
    const { maxConnections } = this.#settings
    const message = `All ${maxConnections} connections are in use by locks that are held or waited for: release some, or raise "maxConnections"`
    return lockError('E_LOCK_CONNECTIONS', 'postgresql:', message, { recoverable: true })
  }

  /** Passes on what is free: a session, or leave to open one. */
  #free(session?: Session): void {
    const [next] = this.#line
    if (next) {
      this.#line.delete(next)
      next.take(session)
    } else if (session) this.#rest(session)
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
    clearTimeout(this.#atRest.get(session))
    this.#atRest.delete(session)
    this.#free()
  }

  /** The first connection is made alone: what is proved of a pooler with a second one holds for all. */
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
    const session = await Session.open(this.#settings)
    try {
      if (session.hasPooler) await this.#proveSessions(session)
      await session.prepare()
      this.#warn(session)
      await this.#endLost(session)
      return session
    } catch (error) {
      session.destroy()
      throw error
    }
  }

  /** What was proved of the pooler once holds for all connections through it. */
  #proveSessions(session: Session): Promise<void> {
    const proof = this.#keepsSessions ?? refusePooler(session, () => Session.open(this.#settings))
    this.#keepsSessions = proof
    proof.catch(() => {
      this.#keepsSessions = undefined
    })
    return proof
  }

  #warn(session: Session): void {
    if (this.#hasWarned || !session.isInClear) return
    this.#hasWarned = true
    const message = `The connection to ${session.place} is not encrypted: whoever can read that network sees what is said on it. sslmode=verify-full protects it`
    emitWarning(message, { type: 'SecurityWarning', code: 'RECONCILE_LOCK_CLEARTEXT' })
  }

  #wake(): Session | undefined {
    for (const [session, timer] of this.#atRest) {
      clearTimeout(timer)
      this.#atRest.delete(session)
      session.use()
      return session
    }
    return undefined
  }

  /** Takes a session that holds no lock. */
  giveBack(session: Session): void {
    if (session.isEnded) return
    session.use()
    this.#free(session)
  }

  #rest(session: Session): void {
    if (this.#atRest.size >= MOST_AT_REST || this.#settings.pool) return void session.close()
    session.rest()
    const timer = setTimeout(() => void session.close(), REST)
    this.#atRest.set(session, timer.unref())
  }

  /**
   * Ends a session on the server as well, which may not have heard of the end of its connection: now, or with the next
   * connection if there can be none now.
   */
  async giveUp(session: Session): Promise<void> {
    session.destroy()
    this.#lost.add(session)
    // Beyond `maxConnections`: what others wait for may be what that session holds.
    const other = await this.#openOne()
    await other.close()
  }

  async #endLost(session: Session): Promise<void> {
    const end = monotonic() + UNTIL_ENDED
    for (const lost of this.#lost) {
      this.#lost.delete(lost)
      const which = [lost.backend, lost.started]
      while ((await session.ask<boolean>(endSession, which)) && monotonic() < end) await delay(PERIOD)
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#atRest.keys()].map((session) => session.close()))
  }
}
