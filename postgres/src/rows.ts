import { hostname } from 'node:os'
import { threadId } from 'node:worker_threads'
import { halves } from './key.js'
import type { Session } from './session.js'
import { type LockError, lockError } from './shared.js'
import { readWithoutTable, type Statements } from './sql.js'
import type { PostgresHolder } from './types.js'

/** A holder as the table has it: with the server's process that serves its session. */
export type Row = PostgresHolder & { backend: number; token: string }

/** What was seen in one look. */
export interface Look {
  holder: Row | null
  isReleased: boolean | null
  /** The session that holds the advisory lock. */
  backend: number | null
}

export interface Recorded {
  holder: Row
  before: Row | null
}

/** How PostgreSQL calls what can be wrong: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const UNDEFINED_TABLE = '42P01'
const UNIQUE_VIOLATION = '23505'

const LONGEST = 255

const codeOf = (error: unknown): unknown => (error as { code?: unknown }).code

/** The table `reconcile_lock`. */
export class Rows {
  readonly #sql: Statements

  constructor(sql: Statements) {
    this.#sql = sql
  }

  /** Writes who holds the lock now, in the session that holds it, and says who did before and never released it. */
  async record(session: Session, name: string, key: bigint): Promise<Recorded> {
    try {
      return await this.#insert(session, name, key)
    } catch (error) {
      if (codeOf(error) !== UNDEFINED_TABLE) throw error
    }
    // Of several that create it at once the slower ones fail, and find it.
    const failure: unknown = await session.ask(this.#sql.create).catch((error) => error)
    try {
      return await this.#insert(session, name, key)
    } catch (error) {
      const isMissing = codeOf(error) === UNDEFINED_TABLE && failure instanceof Error
      throw isMissing ? this.#missing(session, failure) : error
    }
  }

  async #insert(session: Session, name: string, key: bigint): Promise<Recorded> {
    try {
      return await session.ask(this.#sql.record, [name, key, process.pid, threadId, hostname()])
    } catch (error) {
      throw codeOf(error) === UNIQUE_VIOLATION ? collision(session, name) : error
    }
  }

  #missing(session: Session, cause: Error): LockError {
    const message =
      `The table reconcile_lock is missing and cannot be created (${cause.message}). Somebody who may has to run:\n\n` +
      `${this.#sql.create};\n\nand to grant SELECT, INSERT and UPDATE on it to the role that holds locks`
    return lockError('E_LOCK_TABLE', session.place, message, { reason: cause.message, cause })
  }

  /** Gives a lock back as it was found: the next run is still told of the one that never released it. */
  async restore(session: Session, key: bigint, { holder, before }: Recorded): Promise<void> {
    const { pid, thread, host, application, backend, createdAt } = before ?? holder
    const values = [key, holder.token, pid, thread, host, application, backend, createdAt]
    await session.ask(this.#sql.restore, values)
  }

  async look(session: Session, name: string, key: bigint): Promise<Look> {
    try {
      return await session.ask<Look>(this.#sql.read, [name, ...halves(key)])
    } catch (error) {
      if (codeOf(error) !== UNDEFINED_TABLE) throw error
      const locked = await session.ask<Pick<Look, 'backend'>>(readWithoutTable, halves(key))
      return { holder: null, isReleased: null, ...locked }
    }
  }

  /** Marks the row as released, with the lock held; whether that was news. */
  async clear(session: Session, key: bigint): Promise<boolean> {
    try {
      return (await session.ask<boolean | undefined>(this.#sql.clear, [key])) ?? false
    } catch (error) {
      if (codeOf(error) !== UNDEFINED_TABLE) throw error
      return false
    }
  }

  /** Releases the lock: the row first. Whether the session had held it. */
  release(session: Session, key: bigint, token: bigint): Promise<boolean> {
    return session.ask<boolean>(this.#sql.release(key, token))
  }
}

/** The key is the hash of another name too: whoever holds the one would seem to hold the other. */
function collision(session: Session, name: string) {
  const message = `The lock ${name} has the key of another name in the table reconcile_lock: choose another name`
  return lockError('E_LOCK_COLLISION', session.place, message)
}

/** What a person is told of a holder: whoever may write to the table may have written this. */
export function publicHolder({ backend: _, token: __, ...holder }: Row): PostgresHolder {
  return { ...holder, host: printable(holder.host ?? ''), application: printable(holder.application) }
}

/** Nothing that a terminal would obey, and no more than the longest name of a host. */
function printable(text: string): string {
  const shown = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0
    return `\\u{${code.toString(16)}}`
  })
  return shown.length > LONGEST ? `${shown.slice(0, LONGEST)}…` : shown
}

/** Who holds the lock, if the session that does has written it. */
export function holderOf({ holder, isReleased, backend }: Look): PostgresHolder | undefined {
  return holder && !isReleased && holder.backend === backend ? publicHolder(holder) : undefined
}

/** Somebody has the lock, and has not said who it is. */
export const UNKNOWN = 'a session of the database holds it, and the table does not say whose that is'

/** What a refusal tells of the holder. */
export function whoHolds(look: Look | undefined): { holder: PostgresHolder } | { reason: string } {
  const holder = look && holderOf(look)
  return holder ? { holder } : { reason: UNKNOWN }
}

/** Whether it was a process of this machine, and has ended; the server may hear of that a moment later. */
export function isGone(holder: PostgresHolder | undefined): boolean {
  if (holder?.host !== hostname()) return false
  try {
    process.kill(holder.pid, 0)
    return false
  } catch (error) {
    return codeOf(error) === 'ESRCH'
  }
}

/** Why that run is gone, in one sentence. */
export function endOf({ pid, host }: PostgresHolder): string {
  const where = host === hostname() ? '' : ` on ${host}`
  return `process ${pid}${where} ended without releasing, or lost its connection`
}
