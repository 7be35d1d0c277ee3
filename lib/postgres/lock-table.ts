import { threadId } from 'node:worker_threads'
import { lockError } from '../shared/errors.js'
import { thisHost } from '../shared/this-host.js'
import { codeOf, SQLSTATE } from './errors.js'
import { halves } from './key.js'
import type { LockView, Row } from './lock-view.js'
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
      throw lockError('E_LOCK_TABLE', session.serverUrl, message)
    }
    session.trusted = schema
    return true
  }

  /** Whether the table was dropped after the last check. */
  #isDropped(session: Session, error: unknown): boolean {
    const isDropped = codeOf(error) === SQLSTATE.undefinedTable
    if (isDropped) session.trusted = undefined
    return isDropped
  }

  async #create(session: Session, schema: string): Promise<void> {
    // If several processes create it at the same time, the slower ones fail and then find it.
    const failure: unknown = await session.query(this.#sql(schema).create).catch((error) => error)
    if (await this.#isThere(session, schema)) return
    throw this.#missing(session, schema, failure instanceof Error ? failure.message : 'unknown', failure)
  }

  #missing(session: Session, schema: string, reason: string, cause?: unknown) {
    const message =
      `The table reconcile_lock is missing and cannot be created (${reason}). Run this as a superuser, or as the role ` +
      `that holds the locks once it has CREATE on the schema:\n\n${createTable(tableName(schema))};\n\n` +
      'A superuser also has to grant SELECT, INSERT and UPDATE on the table to that role'
    return lockError('E_LOCK_TABLE', session.serverUrl, message, { reason, cause })
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
