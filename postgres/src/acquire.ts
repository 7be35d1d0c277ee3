import { monotonic } from './clock.js'
import { lockKey } from './key.js'
import { HeldLock } from './lock.js'
import type { Request } from './options.js'
import { holderOf, isGone, type Look, type Rows, whoHolds } from './rows.js'
import { pathOf, type Session } from './session.js'
import type { Sessions } from './sessions.js'
import { channels, contention, isContention, type LockError } from './shared.js'
import { tryLock } from './sql.js'
import { told } from './tell.js'
import type { PostgresLock } from './types.js'
import { Wait } from './wait.js'

/** How long the server may take to hear that a process of this machine has ended, in milliseconds. */
const UNTIL_DEAD = 1000

/** How long a session may hold the lock before the table says whose it is, in milliseconds. */
const UNTIL_KNOWN = 100

/** One call of `acquireLock`. */
export class Acquisition {
  isAborted = false
  readonly #sessions: Sessions
  readonly #rows: Rows
  readonly #request: Request
  readonly #key: bigint
  readonly #started = monotonic()
  #path = ''
  #wait: Wait | undefined
  #seen: Look | undefined
  #hasWaited = false

  constructor(sessions: Sessions, rows: Rows, request: Request) {
    this.#sessions = sessions
    this.#rows = rows
    this.#request = request
    this.#key = lockKey(request.name)
  }

  async run(): Promise<PostgresLock> {
    const { session, answer } = await this.#sessions.begin((session) =>
      session.ask<boolean>(tryLock, [this.#key]),
    )
    this.#path = pathOf(session, this.#request.name)
    try {
      if (!answer && !(await this.#waitFor(session))) throw this.#refusal()
      if (this.isAborted) throw this.#request.signal?.reason
      return await this.#enter(session)
    } catch (error) {
      // A session that was refused holds nothing; of another one nobody knows.
      if (isContention(error) && !this.isAborted) this.#sessions.giveBack(session)
      else await session.close()
      throw error
    }
  }

  abort(): void {
    this.isAborted = true
    this.#wait?.cancel()
  }

  async #waitFor(session: Session): Promise<boolean> {
    const wait = new Wait(this.#sessions, session, this.#key)
    this.#wait = wait
    if (await this.#sitOut(session, wait)) return true
    channels.contended(this.#refusal())
    const left = this.#request.timeout - (monotonic() - this.#started)
    if (left <= 0 || this.isAborted) return false
    this.#hasWaited = true
    const waiting = wait.for(left)
    if (!this.#isToldTo) return waiting
    try {
      return await told(waiting, (isFirst) => this.#tell(isFirst))
    } catch (error) {
      wait.cancel()
      await waiting.catch(() => {})
      throw error
    }
  }

  /** Contention is reported when somebody holds the lock, and not for the moment in which it changes hands. */
  async #sitOut(session: Session, wait: Wait): Promise<boolean> {
    this.#seen = await this.#look(session)
    const holder = holderOf(this.#seen)
    if (holder && !isGone(holder)) return false
    if (await wait.for(holder ? UNTIL_DEAD : UNTIL_KNOWN)) return true
    this.#seen = await this.#look(session)
    return false
  }

  #look(session: Session): Promise<Look> {
    return this.#rows.look(session, this.#request.name, this.#key)
  }

  get #isToldTo(): boolean {
    return this.#request.onWait !== undefined || channels.watchWaits()
  }

  async #tell(isFirst: boolean): Promise<void> {
    // The waiting session has no answer to give meanwhile.
    if (!isFirst) this.#seen = await this.#sessions.ask((session) => this.#look(session))
    if (this.isAborted) return
    const status = { path: this.#path, ...whoHolds(this.#seen), waited: this.#waited() }
    const { onWait } = this.#request
    onWait?.(status)
    if (channels.watchWaits()) channels.waiting(status)
  }

  readonly #waited = (): number => (this.#hasWaited ? Math.round(monotonic() - this.#started) : 0)

  #refusal(): LockError {
    return contention(this.#request.message, { path: this.#path, ...whoHolds(this.#seen) })
  }

  async #enter(session: Session): Promise<PostgresLock> {
    const { name } = this.#request
    const recorded = await this.#rows.record(session, name, this.#key)
    const about = { session, sessions: this.#sessions, rows: this.#rows, key: this.#key, path: this.#path }
    const lock = new HeldLock({ ...about, name, recorded })
    channels.acquired(lock, this.#waited)
    // The symbol was added to the class where the checker does not see it.
    return lock as unknown as PostgresLock
  }
}
