import type { PostgresLock, PostgresLockStatus } from '../../postgres.js'
import { abortable } from '../shared/abortable.js'
import { delay, monotonic } from '../shared/clock.js'
import { contention, lockError } from '../shared/errors.js'
import { Acquisition } from './acquire.js'
import { SQLSTATE } from './errors.js'
import * as held from './held-locks.js'
import { halves, lockKey } from './key.js'
import { HeldLock } from './lock.js'
import type { LockTable } from './lock-table.js'
import {
  contentionDetails,
  describeReaders,
  describeStaleHolder,
  describeUnknown,
  holderOf,
  howToEnd,
  type LockView,
  publicHolder,
  publicReader,
} from './lock-view.js'
import { NameQueue } from './queue.js'
import { END_CHECK_MS, END_TIMEOUT_MS, pathOf, type Session } from './session.js'
import type { SessionPool } from './session-pool.js'
import type { Request } from './settings.js'
import { endHolder, tryLock, unlock } from './sql.js'

/** The operations on the locks of one database. */
export class Locks {
  readonly #sessions: SessionPool
  readonly #table: LockTable
  readonly #queues = new Map<string, NameQueue>()
  readonly #queuesOfReaders = new Map<string, NameQueue>()

  constructor(sessions: SessionPool, table: LockTable) {
    this.#sessions = sessions
    this.#table = table
  }

  acquire(request: Request): Promise<PostgresLock> {
    const acquisition = new Acquisition(this.#sessions, this.#table, this.#queueFor(request), request)
    const { signal } = request
    return signal
      ? abortable(() => acquisition.run(), signal, acquisition, HeldLock.rollBack)
      : acquisition.run()
  }

  /** Readers of a name and its owners wait in different sessions. */
  #queueFor({ name, shared }: Request): NameQueue {
    const queues = shared ? this.#queuesOfReaders : this.#queues
    const queue =
      queues.get(name) ??
      new NameQueue(this.#sessions, this.#table, { name, shared }, () => queues.delete(name))
    queues.set(name, queue)
    return queue
  }

  async release({ name }: Request): Promise<void> {
    await held.find(this.#sessions, name)?.release()
  }

  /** Does nothing with a lock that was acquired through another object. */
  async releaseHeld(lock: HeldLock): Promise<void> {
    if (lock.isOf(this.#sessions, lock.name)) await lock.release()
  }

  inspect({ name }: Request): Promise<PostgresLockStatus> {
    return this.#sessions.query(async (session) => {
      const view = await this.#readState(session, name)
      const path = pathOf(session, name)
      // `acquired_at` is `infinity`.
      if (view.holder && view.holder.createdAt === null) {
        const message = `The row ${name} of the table reconcile_lock has an acquired_at that this package did not write: correct or delete it`
        throw lockError('E_LOCK_TABLE', path, message)
      }
      const token = view.holder && { token: BigInt(view.holder.token) }
      const readers = view.readers.length > 0 && { readers: view.readers.map(publicReader) }
      return { path, ...stateOf(view), ...token, ...readers }
    })
  }

  /** Row and lock do not change together: only a row that is stale in two queries is reported as stale. */
  async #readState(session: Session, name: string): Promise<LockView> {
    const key = lockKey(name)
    const first = await this.#table.readState(session, name, key)
    if (!isStale(first)) return first
    const second = await this.#table.readState(session, name, key)
    return isStale(second) && second.holder?.token !== first.holder?.token
      ? this.#readState(session, name)
      : second
  }

  break(request: Request): Promise<boolean> {
    const { name, message, force } = request
    return this.#sessions.query(async (session) => {
      const view = await this.#readState(session, name)
      const path = pathOf(session, name)
      if (view.readers.length > 0) {
        const end = force ? `. The table does not name them: ${howToEnd(view.readers)}` : ''
        throw contention(message, { path, reason: `${describeReaders(view.readers)}${end}` })
      }
      if (view.backend === null) return isStale(view) && this.#clear(session, name)
      if (!force || view.backend === 0) throw contention(message, { path, ...contentionDetails(view) })
      if (!(await this.#endHolder(session, name, view))) {
        const reason = `process ${view.backend} of the server has the lock's key, and the table does not say that it holds this lock: it may be another program's advisory lock`
        throw contention(message, { path, reason })
      }
      // Another process may hold the lock already.
      await this.#clear(session, name)
      return true
    })
  }

  /** Ends only the session that the table names; returns whether it did, when the session is gone. */
  async #endHolder(
    session: Session,
    name: string,
    { holder, isReleased, backend }: LockView,
  ): Promise<boolean> {
    if (holder === null || isReleased || holder.backend !== backend) return false
    const values = [...halves(lockKey(name)), holder.backend, holder.started]
    const end = monotonic() + END_TIMEOUT_MS
    for (let hasEnded = false; ; hasEnded = true) {
      const found = await session.query<Ended>(endHolder, values)
      if (!found.isHeld || monotonic() >= end) return true
      if (found.isHidden) throw hidden(holder.backend)
      if (!found.isEnded) return hasEnded
      await delay(END_CHECK_MS)
    }
  }

  async #clear(session: Session, name: string): Promise<boolean> {
    // A process that takes over the lock clears the row too.
    return (await session.query<boolean>(tryLock, [lockKey(name)])) && this.#clearHeld(session, name)
  }

  async #clearHeld(session: Session, name: string): Promise<boolean> {
    const key = lockKey(name)
    try {
      return await this.#table.clear(session, key)
    } finally {
      await session.query(unlock, [key])
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

/** In the server's words: it does not report this error itself. */
function hidden(backend: number): Error {
  const message = `permission denied to see process ${backend} of the server, which holds the lock: ending it takes its own role, or pg_signal_backend and pg_read_all_stats`
  return Object.assign(new Error(message), { code: SQLSTATE.insufficientPrivilege, recoverable: false })
}

const isStale = ({ holder, isReleased, backend, readers }: LockView): boolean =>
  backend === null && readers.length === 0 && holder !== null && isReleased === false

function stateOf(view: LockView): Pick<PostgresLockStatus, 'state' | 'holder' | 'reason'> {
  if (isStale(view) && view.holder) {
    const holder = publicHolder(view.holder)
    return { state: 'stale', holder, reason: describeStaleHolder(holder) }
  }
  if (view.backend === null && view.readers.length > 0)
    return { state: 'held', reason: describeReaders(view.readers) }
  if (view.backend === null) return { state: 'free', reason: 'no session holds the lock' }
  const holder = holderOf(view)
  if (!holder) return { state: 'held', reason: describeUnknown(view) }
  const since = new Date(holder.createdAt).toISOString()
  return {
    state: 'held',
    holder,
    reason: `process ${holder.pid} on ${holder.host} has held it since ${since}`,
  }
}
