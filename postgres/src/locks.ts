import { Acquisition } from './acquire.js'
import { delay, monotonic } from './clock.js'
import { SQLSTATE } from './errors.js'
import * as held from './held.js'
import { halves, lockKey } from './key.js'
import { HeldLock } from './lock.js'
import type { Request } from './options.js'
import { NameQueue } from './queue.js'
import { endOf, holderOf, type Look, publicHolder, type Rows, UNKNOWN, whoHolds } from './rows.js'
import { pathOf, type Session } from './session.js'
import type { Sessions } from './sessions.js'
import { abortable, contention, lockError } from './shared.js'
import { endHolder, tryLock, unlock } from './sql.js'
import type { PostgresLock, PostgresLockStatus } from './types.js'

/** The server signals a session and does not wait for its end: how often it is looked for, and how long, in milliseconds. */
const PERIOD = 5
const UNTIL_ENDED = 5000

/** What can be done with the locks of one database. */
export class Locks {
  readonly #sessions: Sessions
  readonly #rows: Rows
  readonly #queues = new Map<string, NameQueue>()

  constructor(sessions: Sessions, rows: Rows) {
    this.#sessions = sessions
    this.#rows = rows
  }

  acquire(request: Request): Promise<PostgresLock> {
    const acquisition = new Acquisition(this.#sessions, this.#rows, this.#queueFor(request.name), request)
    const { signal } = request
    return signal
      ? abortable(() => acquisition.run(), signal, acquisition, HeldLock.giveBack)
      : acquisition.run()
  }

  #queueFor(name: string): NameQueue {
    const queue =
      this.#queues.get(name) ??
      new NameQueue(this.#sessions, this.#rows, name, () => this.#queues.delete(name))
    this.#queues.set(name, queue)
    return queue
  }

  async release({ name }: Request): Promise<void> {
    await held.find(this.#sessions, name)?.release()
  }

  inspect({ name }: Request): Promise<PostgresLockStatus> {
    return this.#sessions.ask(async (session) => {
      const look = await this.#look(session, name)
      const path = pathOf(session, name)
      // The server has written it as `infinity`.
      if (look.holder && look.holder.createdAt === null) {
        const message = `The row ${name} of the table reconcile_lock has an acquired_at that no run has written: correct or delete it`
        throw lockError('E_LOCK_TABLE', path, message)
      }
      const token = look.holder && { token: BigInt(look.holder.token) }
      return { path, ...stateOf(look), ...token }
    })
  }

  /** A row and a lock are two things: a row that names a dead session does so in two looks, or it is about to change. */
  async #look(session: Session, name: string): Promise<Look> {
    const key = lockKey(name)
    const first = await this.#rows.look(session, name, key)
    if (!isStale(first)) return first
    const second = await this.#rows.look(session, name, key)
    return isStale(second) && second.holder?.token !== first.holder?.token
      ? this.#look(session, name)
      : second
  }

  break(request: Request): Promise<boolean> {
    const { name, message, force } = request
    return this.#sessions.ask(async (session) => {
      const look = await this.#look(session, name)
      if (look.backend === null) return isStale(look) && this.#clear(session, name)
      const path = pathOf(session, name)
      if (!force) throw contention(message, { path, ...whoHolds(look) })
      if (!(await this.#endHolder(session, name, look))) {
        const reason = `process ${look.backend} of the server has the lock's key, and the table does not say that it holds this lock: it may be another program's advisory lock`
        throw contention(message, { path, reason })
      }
      // Another run may have it by now.
      await this.#clear(session, name)
      return true
    })
  }

  /** Ends the session that the table names, and no other one; whether it did. Comes back when it has gone. */
  async #endHolder(session: Session, name: string, { holder, isReleased, backend }: Look): Promise<boolean> {
    if (holder === null || isReleased || holder.backend !== backend) return false
    const values = [...halves(lockKey(name)), holder.backend, holder.started]
    const end = monotonic() + UNTIL_ENDED
    for (let hasEnded = false; ; hasEnded = true) {
      const found = await session.ask<Ended>(endHolder, values)
      if (!found.isHeld || monotonic() >= end) return true
      if (found.isHidden) throw hidden(holder.backend)
      if (!found.isEnded) return hasEnded
      await delay(PERIOD)
    }
  }

  async #clear(session: Session, name: string): Promise<boolean> {
    // A run that takes the lock over clears it as well.
    return (await session.ask<boolean>(tryLock, [lockKey(name)])) && this.#clearHeld(session, name)
  }

  async #clearHeld(session: Session, name: string): Promise<boolean> {
    const key = lockKey(name)
    try {
      return await this.#rows.clear(session, key)
    } finally {
      await session.ask(unlock, [key])
    }
  }

  close(): Promise<void> {
    return this.#sessions.close()
  }
}

interface Ended {
  isHeld: boolean
  isHidden: boolean
  isEnded: boolean
}

/** As the server says it, where it does not say that it says nothing. */
function hidden(backend: number): Error {
  const message = `permission denied to see process ${backend} of the server, which holds the lock: ending it takes its own role, or pg_signal_backend and pg_read_all_stats`
  return Object.assign(new Error(message), { code: SQLSTATE.insufficientPrivilege, recoverable: false })
}

const isStale = ({ holder, isReleased, backend }: Look): boolean =>
  backend === null && holder !== null && isReleased === false

function stateOf(look: Look): Pick<PostgresLockStatus, 'state' | 'holder' | 'reason'> {
  if (isStale(look) && look.holder) {
    const holder = publicHolder(look.holder)
    return { state: 'stale', holder, reason: endOf(holder) }
  }
  if (look.backend === null) return { state: 'free', reason: 'nobody holds the lock' }
  const holder = holderOf(look)
  if (!holder) return { state: 'held', reason: UNKNOWN }
  const since = new Date(holder.createdAt).toISOString()
  return { state: 'held', holder, reason: `process ${holder.pid} on ${holder.host} holds it since ${since}` }
}
