import { Acquisition } from './acquire.js'
import * as held from './held.js'
import { lockKey } from './key.js'
import { HeldLock } from './lock.js'
import type { Request } from './options.js'
import { endOf, holderOf, type Look, publicHolder, type Rows, UNKNOWN, whoHolds } from './rows.js'
import { pathOf, type Session } from './session.js'
import type { Sessions } from './sessions.js'
import { abortable, contention } from './shared.js'
import { tryLock, unlock } from './sql.js'
import { endHolder } from './terminate.js'
import type { PostgresLock, PostgresLockStatus } from './types.js'

/** What can be done with the locks of one database. */
export class Locks {
  readonly #sessions: Sessions
  readonly #rows: Rows

  constructor(sessions: Sessions, rows: Rows) {
    this.#sessions = sessions
    this.#rows = rows
  }

  acquire(request: Request): Promise<PostgresLock> {
    const acquisition = new Acquisition(this.#sessions, this.#rows, request)
    const { signal } = request
    return signal
      ? abortable(() => acquisition.run(), signal, acquisition, HeldLock.giveBack)
      : acquisition.run()
  }

  async release({ name }: Request): Promise<void> {
    await held.find(this.#sessions, name)?.release()
  }

  inspect({ name }: Request): Promise<PostgresLockStatus> {
    return this.#sessions.ask(async (session) => {
      const look = await this.#look(session, name)
      const token = look.holder && { token: BigInt(look.holder.token) }
      return { path: pathOf(session, name), ...stateOf(look), ...token }
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
      if (!force) {
        throw contention(message, { path: pathOf(session, name), ...whoHolds(look) })
      }
      await endHolder(session, lockKey(name), look.backend)
      // Another run may have it by now.
      await this.#clear(session, name)
      return true
    })
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
