import { threadId } from 'node:worker_threads'
import type { PostgresHolder, PostgresReader } from '../../postgres.js'
import { lockError } from '../shared/errors.js'
import { thisHost } from '../shared/this-host.js'
import { codeOf, SQLSTATE } from './errors.js'
import { halves } from './key.js'
import { pathOf, type Session } from './session.js'
import {
  createTable,
  readWithoutTable,
  recordSharedWithoutTable,
  type Statements,
  statementsFor,
  tableName,
  tableOwner,
} from './sql.js'

/** A row: the holder, the server process of its session, and the start of that process. */
export type Row = PostgresHolder & { backend: number; started: string | null; token: string }

/** The state of a lock, read in one query. */
export interface LockView {
  holder: Row | null
  isReleased: boolean | null
  /** The session that owns the advisory lock; 0 for a prepared transaction. */
  backend: number | null
  /** The sessions that hold it in shared mode. */
  readers: ReaderRow[]
}

/** A session that holds a lock in shared mode. The server hides those of other roles from some. */
interface ReaderRow {
  backend: number
  user: string | null
  application: string | null
}

export interface Recorded {
  holder: Row
  previousHolder: Row | null
}

interface Owner {
  owner: string
  user: string
  kind: string
  isTrusted: boolean
}

/** A string in a row may have any length. */
const MAX_SHOWN_LENGTH = 255

/** The table `reconcile_lock`. */
export class LockTable {
  readonly #schema: string | undefined
  readonly #statements = new Map<string, Statements>()

  /** @param schema the session's own by default */
  constructor(schema: string | undefined) {
    this.#schema = schema
  }

  /** Writes the holder in the session of the lock; returns a previous holder that has not released it. */
  async record(session: Session, name: string, key: bigint): Promise<Recorded> {
    const schema = this.#schemaOf(session)
    const values = [name, key, process.pid, threadId, thisHost(), ...halves(key)]
    const insert = async (): Promise<Recorded | undefined> => {
      if (!(await this.#isThere(session, schema))) await this.#create(session, schema)
      return session.query(this.#sql(schema).record, values)
    }
    let recorded: Recorded | undefined
    try {
      recorded = await insert().catch((error) => (this.#isDropped(session, error) ? insert() : raise(error)))
    } catch (error) {
      throw rowError(session, name, error)
    }
    if (recorded) return recorded
    throw unsupported(pathOf(session, name))
  }

  /** The holder of a lock in shared mode, which has no row. Needs no table. */
  async recordShared(session: Session, name: string, key: bigint): Promise<Recorded> {
    const own = [process.pid, threadId, thisHost()]
    const schema = this.#schema ?? session.schema
    const withTable = schema !== null && (await this.#isThere(session, schema))
    const recorded: Recorded | undefined = withTable
      ? await session
          .query<Recorded>(this.#sql(schema).recordShared, [...own, name, ...halves(key)])
          .catch((error) =>
            this.#isDropped(session, error) ? this.recordShared(session, name, key) : raise(error),
          )
      : await session.query<Recorded>(recordSharedWithoutTable, [...own, ...halves(key)])
    if (recorded) return recorded
    throw unsupported(pathOf(session, name))
  }

  #schemaOf(session: Session): string {
    const schema = this.#schema ?? session.schema
    if (schema !== null) return schema
    throw this.#missing(
      session,
      'public',
      'no schema of the search_path exists: the option "schema" names one',
    )
  }

  #sql(schema: string): Statements {
    const statements = this.#statements.get(schema) ?? statementsFor(schema)
    this.#statements.set(schema, statements)
    return statements
  }

  /** Whether the table exists. Its owner could make each of our statements run others, so it must be trusted. */
  async #isThere(session: Session, schema: string): Promise<boolean> {
    if (session.trusted === schema) return true
    const found = await session.query<Owner | undefined>(tableOwner, [schema])
    if (!found) return false
    const { owner, user, kind, isTrusted } = found
    if (!isTrusted || kind !== 'r') {
      const table = tableName(schema)
      const message =
        kind === 'r'
          ? `The table ${table} belongs to the role ${owner}, which could run statements with the rights of ${user}. ` +
            `If that is intended, run ALTER TABLE ${table} OWNER TO ${user}; otherwise drop it, or use another schema`
          : `${table} is not a table, and belongs to the role ${owner}. Drop it, or use another schema`
      throw lockError('E_LOCK_TABLE', session.place, message)
    }
    session.trusted = schema
    return true
  }

  /** Whether the table was dropped after the last check. */
  #isDropped(session: Session, error: unknown): boolean {
    const isDropped = codeOf(error) === SQLSTATE.undefinedTable && session.trusted !== undefined
    if (isDropped) session.trusted = undefined
    return isDropped
  }

  async #create(session: Session, schema: string): Promise<void> {
    // If several processes create it at the same time, the slower ones fail and then find it.
    const failure: unknown = await session.query(this.#sql(schema).create).catch((error) => error)
    if (session.isEnded) throw failure
    if (await this.#isThere(session, schema)) return
    throw this.#missing(session, schema, failure instanceof Error ? failure.message : 'unknown', failure)
  }

  #missing(session: Session, schema: string, reason: string, cause?: unknown) {
    const message =
      `The table reconcile_lock is missing and cannot be created (${reason}). Run this as a superuser, or as the role ` +
      `that holds the locks once it has CREATE on the schema:\n\n${createTable(tableName(schema))};\n\n` +
      'A superuser also has to grant SELECT, INSERT and UPDATE on the table to that role'
    return lockError('E_LOCK_TABLE', session.place, message, { reason, cause })
  }

  /** Restores the row, so that the next holder still gets the holder that has not released the lock. */
  async restore(session: Session, key: bigint, { holder, previousHolder }: Recorded): Promise<void> {
    const { pid, thread, host, application, backend, started, createdAt } = previousHolder ?? holder
    const values = [key, holder.token, pid, thread, host, application, backend, started, createdAt]
    await session.query(this.#sql(this.#schemaOf(session)).restore, values)
  }

  async readState(session: Session, name: string, key: bigint): Promise<LockView> {
    const schema = this.#schema ?? session.schema
    if (schema === null || !(await this.#isThere(session, schema))) {
      const locked = await session.query<Pick<LockView, 'backend' | 'readers'>>(readWithoutTable, halves(key))
      return { holder: null, isReleased: null, ...locked }
    }
    try {
      return await session.query<LockView>(this.#sql(schema).read, [name, ...halves(key)])
    } catch (error) {
      return this.#isDropped(session, error) ? this.readState(session, name, key) : raise(error)
    }
  }

  /** Marks the row as released while the lock is held; returns whether it was not marked before. */
  async clear(session: Session, key: bigint): Promise<boolean> {
    const schema = this.#schemaOf(session)
    return (await session.query<boolean | undefined>(this.#sql(schema).clear, [key])) ?? false
  }

  /** Releases first the row, then the lock; returns whether the session held it. */
  release(session: Session, key: bigint, token: bigint): Promise<boolean> {
    return session.query<boolean>(this.#sql(this.#schemaOf(session)).release(key, token))
  }
}

export function unsupported(path: string) {
  const message =
    'The server has granted the lock, and its pg_locks does not show it: advisory locks do nothing there. Locks need PostgreSQL itself'
  return lockError('E_LOCK_UNSUPPORTED', path, message)
}

function raise(error: unknown): never {
  throw error
}

/** Describes an error of a row if the server's own message does not. */
function rowError(session: Session, name: string, error: unknown): unknown {
  const path = pathOf(session, name)
  switch (codeOf(error)) {
    case SQLSTATE.uniqueViolation: {
      const message = `The lock ${name} has the key of another name in the table reconcile_lock: choose another name`
      return lockError('E_LOCK_COLLISION', path, message)
    }
    case SQLSTATE.numericValueOutOfRange: {
      const message = `The row ${name} of the table reconcile_lock has the largest possible token, which this package did not write: correct it`
      return lockError('E_LOCK_TABLE', path, message, { cause: error })
    }
    default:
      return error
  }
}

/** The public part of a holder. Any role that may write to the table can have written it. */
export function publicHolder({ backend: _, started: __, token: ___, ...holder }: Row): PostgresHolder {
  return { ...holder, host: printable(holder.host ?? ''), application: printable(holder.application) }
}

/** Escapes characters that a terminal interprets, and cuts to the maximum length of a host name. */
function printable(text: string): string {
  const shown = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0
    return `\\u{${code.toString(16)}}`
  })
  return shown.length > MAX_SHOWN_LENGTH ? `${shown.slice(0, MAX_SHOWN_LENGTH)}…` : shown
}

/** The holder, if the session that has the lock has written it. */
export function holderOf({ holder, isReleased, backend }: LockView): PostgresHolder | undefined {
  return holder && !isReleased && holder.backend === backend ? publicHolder(holder) : undefined
}

/** The reason if the session that has the lock has not written its row. */
const UNKNOWN = 'a session of the database holds it, and no row of the table names its holder'

const PREPARED = 'a prepared transaction holds it: end it by COMMIT PREPARED or ROLLBACK PREPARED'

export const describeUnknown = (view: LockView | undefined): string =>
  view?.backend === 0 ? PREPARED : UNKNOWN

/** The holder, or why it is unknown, for a contention error. */
export function contentionDetails(
  view: LockView | undefined,
): { holder: PostgresHolder } | { reason: string } {
  const holder = view && holderOf(view)
  if (holder) return { holder }
  return { reason: view && view.readers.length > 0 ? describeReaders(view.readers) : describeUnknown(view) }
}

/** How many readers a reason names. */
const MAX_NAMED = 8

/** The sessions that hold a lock in shared mode, in one sentence. */
export function describeReaders(readers: ReaderRow[]): string {
  const [first] = readers
  if (first && readers.length === 1) return `${describeReader(first)} holds it in shared mode`
  const named = readers.slice(0, MAX_NAMED).map(describeReader).join(', ')
  const more = readers.length > MAX_NAMED ? ', …' : ''
  return `${readers.length} sessions hold it in shared mode: ${named}${more}`
}

/** What an operator has to do to end the readers. */
export function howToEnd(readers: ReaderRow[]): string {
  const ways = [
    readers.some(({ backend }) => backend > 0) && 'their processes with pg_terminate_backend',
    readers.some(({ backend }) => backend === 0) &&
      'prepared transactions by COMMIT PREPARED or ROLLBACK PREPARED',
  ]
  return `end ${ways.filter(Boolean).join(', and ')}`
}

function describeReader({ backend, application }: ReaderRow): string {
  if (backend === 0) return 'a prepared transaction'
  return `process ${backend} of the server${application ? ` (${printable(application)})` : ''}`
}

/** The public part of a session that holds a lock in shared mode. */
export const publicReader = ({ backend, user, application }: ReaderRow): PostgresReader => ({
  backend,
  ...(user && { user: printable(user) }),
  ...(application && { application: printable(application) }),
})

/** Whether the holder was a process of this machine that has ended; the server may detect that later. */
export function isLocalProcessGone(holder: PostgresHolder | undefined): boolean {
  if (holder?.host !== thisHost()) return false
  try {
    process.kill(holder.pid, 0)
    return false
  } catch (error) {
    return codeOf(error) === 'ESRCH'
  }
}

/** Why the holder is gone, in one sentence. */
export function describeStaleHolder({ pid, host }: PostgresHolder): string {
  const where = host === thisHost() ? '' : ` on ${host}`
  return `process ${pid}${where} ended without releasing, or lost its connection`
}
