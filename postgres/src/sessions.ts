import { clearTimeout, setTimeout } from './clock.js'
import type { Settings } from './options.js'
import { refusePooler } from './pooler.js'
import { Session } from './session.js'

/** How long a session waits for its next use, in milliseconds, and how many do. */
const REST = 5000
const MOST_AT_REST = 2

/** The sessions of one database that nobody is using: opening one costs more than a lock. */
export class Sessions {
  readonly #settings: Settings
  readonly #atRest = new Map<Session, NodeJS.Timeout>()

  constructor(settings: Settings) {
    this.#settings = settings
  }

  /** A session that has given the first answer: one that had rested may have died meanwhile. */
  async begin<T>(first: (session: Session) => Promise<T>): Promise<{ session: Session; answer: T }> {
    const rested = this.#wake()
    if (rested) {
      try {
        return { session: rested, answer: await first(rested) }
      } catch (error) {
        if (!rested.isEnded) {
          await rested.close()
          throw error
        }
      }
    }
    const session = await this.open()
    try {
      return { session, answer: await first(session) }
    } catch (error) {
      await session.close()
      throw error
    }
  }

  /** Asks in a session that nobody needs after that. */
  async ask<T>(first: (session: Session) => Promise<T>): Promise<T> {
    const { session, answer } = await this.begin(first)
    this.giveBack(session)
    return answer
  }

  async open(): Promise<Session> {
    const session = await Session.open(this.#settings)
    try {
      if (session.hasPooler) await refusePooler(session, () => Session.open(this.#settings))
      await session.prepare()
      return session
    } catch (error) {
      session.destroy()
      throw error
    }
  }

  #wake(): Session | undefined {
    for (const [session, timer] of this.#atRest) {
      clearTimeout(timer)
      this.#atRest.delete(session)
      if (session.isEnded) continue
      session.use()
      return session
    }
    return undefined
  }

  /** Takes a session that holds no lock. */
  giveBack(session: Session): void {
    if (session.isEnded) return
    session.use()
    if (this.#atRest.size >= MOST_AT_REST) return void session.close()
    session.rest()
    const timer = setTimeout(() => {
      this.#atRest.delete(session)
      void session.close()
    }, REST)
    this.#atRest.set(session, timer.unref())
  }

  async close(): Promise<void> {
    const sessions = [...this.#atRest]
    this.#atRest.clear()
    for (const [, timer] of sessions) clearTimeout(timer)
    await Promise.all(sessions.map(([session]) => session.close()))
  }
}
