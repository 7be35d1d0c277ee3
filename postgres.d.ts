/// <reference lib="esnext.disposable" />

/**
 * The lock of `reconcile-lock` for several machines: a session of PostgreSQL holds it, and the server lets go of it
 * when the session ends, as a kernel does for files.
 *
 * Between the loss of a session and its notice two holders can believe in the lock. What protects the data is
 * {@link PostgresLock.token}.
 *
 * @module reconcile-lock/postgres
 */
import type {
  BreakOptions,
  AcquireOptions as FileAcquireOptions,
  LockStatus as FileLockStatus,
  TakenOver as FileTakenOver,
  Holder,
} from './index.js'

export { LockError } from './index.js'

/** How to reach the database. One of `connectionString`, `connect` and `pool` has to be given. */
export interface PostgresOptions {
  /** As `pg` takes it: `postgres://user@host:5432/database`. What it leaves out, `PGUSER` and its like may say. */
  connectionString?: string | undefined
  /** Makes a new client that is not connected yet, for what a URL cannot say. */
  connect?: (() => PostgresClient | Promise<PostgresClient>) | undefined
  /**
   * A `pg.Pool` whose clients are used. Each lock that is held or waited for has one of them to itself, and gives it back
   * with the settings that it had.
   */
  pool?: PostgresPool | undefined
  /**
   * How many connections there are at most: one for each lock that is held, and one for each name that is waited for,
   * whatever the number of calls. A call beyond that waits in line within its `timeout`. Default: 10.
   */
  maxConnections?: number | undefined
  /** The schema of the table `reconcile_lock`. Default: the first of the session's `search_path`. */
  schema?: string | undefined
  /**
   * How long the database and this process may be out of touch before each gives the session up, in milliseconds.
   * The holder notices after half of it at the latest, the server lets others in after all of it. At least 4000.
   * Default: 20000.
   */
  sessionTimeout?: number | undefined
  /** How long connecting may take, in milliseconds. Default: 10000. */
  connectTimeout?: number | undefined
}

/** What is used of a client of the package `pg`, as that package documents it. */
export interface PostgresClient {
  /** Opens the connection. */
  connect(): Promise<unknown>
  /** Runs a statement with values, or several without. */
  query(statement: string | PostgresStatement): Promise<PostgresResult>
  /** Closes the connection. */
  end(): Promise<void>
  /** The connection has failed. */
  on(event: 'error', listener: (error: Error) => void): unknown
  /** The connection has ended. */
  on(event: 'end', listener: () => void): unknown
  /** A channel that the session listens on was notified. */
  on(event: 'notification', listener: (message: { channel: string }) => void): unknown
  /** The server, as far as the client knows it. */
  readonly host?: string | undefined
  /** Its port. */
  readonly port?: number | undefined
  /** The database. */
  readonly database?: string | undefined
}

/** What is used of a `pg.Pool`. */
export interface PostgresPool {
  /** Takes a connected client. */
  connect(): Promise<PostgresPoolClient>
}

/** What is used of a client of a `pg.Pool`. */
export interface PostgresPoolClient extends PostgresClient {
  /** Gives it back; with an error it is not lent again. */
  release(error?: Error | boolean): void
}

/** A statement of {@link PostgresClient.query}. */
export interface PostgresStatement {
  /** What the session knows it by, if it is to be prepared once. */
  name?: string
  /** The SQL. */
  text: string
  /** Its parameters. */
  values: unknown[]
}

/** What is used of an answer of {@link PostgresClient.query}. */
export interface PostgresResult {
  /** One object for each row. */
  rows: unknown[]
}

/** Which lock, and what to say when it is held. */
export interface LockOptions {
  /** The name of the lock, up to 255 characters. Default: `reconcile`. */
  name?: string | undefined
  /** The whole `message` of the contention error. Default: `Another reconcile run is in progress`. */
  message?: string | undefined
}

/** What {@link PostgresLocks.acquireLock} takes. */
export interface AcquireOptions
  extends LockOptions,
    Pick<FileAcquireOptions, 'timeout' | 'signal' | 'onWait'> {}

/** What {@link lockInTransaction} takes. */
export interface TransactionLockOptions extends LockOptions, Pick<FileAcquireOptions, 'timeout' | 'signal'> {}

/** What {@link PostgresLocks.breakLock} takes. */
export interface PostgresBreakOptions extends AcquireOptions, Pick<BreakOptions, 'force'> {}

/** Which lock: by name, by options, of which `timeout`, `signal` and `onWait` are ignored, or one that was acquired. */
export type LockTarget = string | AcquireOptions | PostgresLock

/** Who holds a lock, or left it behind. `createdAt` is of the server's clock. */
export interface PostgresHolder extends Holder {
  /** The session's `application_name`. */
  application: string
}

/** Whom a lock was taken over from. */
export interface PostgresTakenOver extends FileTakenOver {
  holder: PostgresHolder
}

/** What {@link PostgresLocks.inspectLock} found. */
export interface PostgresLockStatus extends Omit<FileLockStatus, 'holder'> {
  /** Who holds the lock or left it behind, if the table says. */
  holder?: PostgresHolder
  /** The token of the last acquisition, if there was one. */
  token?: bigint
}

/**
 * A lock that this process holds until it is released or its session ends.
 *
 * The session can end without this process' doing, and nobody can tell it of that at once: **until it has noticed,
 * another process may hold the lock as well.** What protects the data is {@link PostgresLock.token}: write it along
 * with what the lock guards, and refuse a lower one.
 */
export interface PostgresLock {
  /** The lock, as errors and diagnostics name it: `postgresql://HOST:PORT/DATABASE#NAME`, without a password. */
  readonly path: string
  /** The name it was acquired by. */
  readonly name: string
  /**
   * The fencing token: of two acquisitions of a name, the later one has the higher token, unless both the name's row
   * and time on the server's clock were lost. Microseconds since the Unix epoch on that clock, or one more than the last
   * token if that is higher.
   */
  readonly token: bigint
  /** Is aborted when the lock may have been lost: its session has ended, or does not answer any more. */
  readonly signal: AbortSignal
  /** This process, as the table says. */
  readonly holder: PostgresHolder
  /** Set if the run before this one never released the lock. It may have died half-way. */
  readonly takenOver?: PostgresTakenOver | undefined
  /** Whether the lock is held, as far as this process knows by now. Asks nobody. */
  readonly isHeld: () => boolean
  /**
   * Asks the server whether the lock is still held, for the moment before a step that cannot be undone.
   *
   * @throws `LockError` `E_LOCK_LOST` if it is not, or if the server does not answer.
   */
  readonly confirm: () => Promise<void>
  /**
   * Releases the lock. A second release does nothing.
   *
   * Rejects with a `LockError` `E_LOCK_LOST` if the session had ended before, so that somebody else may have held
   * the lock meanwhile; what the server still has of that session is ended first, so this is the time to stop relying
   * on it. Either way this process holds the lock no more.
   */
  readonly release: () => Promise<void>
  /** What `JSON.stringify` prints of it. */
  toJSON(): Pick<PostgresLock, 'path' | 'name' | 'holder' | 'takenOver'> & {
    /** The token in decimal digits, since JSON has no `bigint`. */
    token: string
  }
  /** As {@link PostgresLock.release}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** The locks of one database, as {@link postgresLocks} gives them. */
export interface PostgresLocks {
  /**
   * Acquires a lock, or rejects. It does not wait for a holder unless `timeout` says so. Not reentrant. A lock whose
   * holder's session has ended is taken over at once; {@link PostgresLock.takenOver} tells.
   *
   * @param options A name stands for `{ name }`.
   * @throws `LockError` `E_LOCK_CONTENTION`, `E_LOCK_CONNECTIONS`, `E_LOCK_POOLER`, `E_LOCK_STANDBY`,
   *   `E_LOCK_UNSUPPORTED`, `E_LOCK_TABLE`, `E_LOCK_COLLISION`, `E_LOCK_DRIVER`; what the server or the system refuses
   *   arrives as `pg` has it, with a `code` and with `recoverable`; a wrong argument, before anything is asked.
   */
  acquireLock(options?: string | AcquireOptions): Promise<PostgresLock>
  /** Releases the lock if it was acquired through this object, and does nothing otherwise. */
  releaseLock(target?: LockTarget): Promise<void>
  /**
   * Runs `fn` while holding the lock and gives its result. The lock is released whatever `fn` does. If `fn` fails,
   * its error is the one that counts; a failing release is then a process warning.
   */
  withLock<T>(fn: (lock: PostgresLock) => T | Promise<T>, options?: string | AcquireOptions): Promise<T>
  /** Says whether the lock is held, and by whom. Changes nothing, and no acquirer notices. */
  inspectLock(target?: LockTarget): Promise<PostgresLockStatus>
  /**
   * Clears what a dead holder left in the table; `true` if there was something. No run needs that.
   *
   * With `force` the session that the table names as the holder's is ended, which takes the same role, or
   * `pg_signal_backend` and `pg_read_all_stats`. That run is not stopped; its `signal` is aborted and its release gives
   * `E_LOCK_LOST`.
   *
   * @throws `LockError` `E_LOCK_CONTENTION` if somebody holds it and `force` is off, or if the table does not name the
   *   session that has the lock's key: it may be another program's advisory lock.
   */
  breakLock(target?: LockTarget | PostgresBreakOptions): Promise<boolean>
  /** Closes the connections that wait for their next use, and so do unused ones after 5 s. Locks stay held. */
  close(): Promise<void>
  /** As {@link PostgresLocks.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * The locks of one database. Nothing is connected before the first call.
 *
 * @throws TypeError, RangeError for wrong options.
 * @example
 * const locks = postgresLocks({ connectionString: process.env.DATABASE_URL })
 * await using lock = await locks.acquireLock({ name: 'reconcile', timeout: 30_000 })
 * await postPayments({ token: lock.token, signal: lock.signal })
 */
export function postgresLocks(options: PostgresOptions): PostgresLocks

/**
 * The SQL that creates the table, for those who may when the role that holds locks may not. That role needs `SELECT`,
 * `INSERT` and `UPDATE` on it.
 *
 * @param schema As in {@link PostgresOptions.schema}.
 */
export function tableSql(schema?: string): string

/**
 * The key of a lock's advisory lock: the first eight bytes of the SHA-256 of `reconcile-lock:NAME` in UTF-8, as a
 * signed number, the highest byte first. In SQL (PostgreSQL 11 and newer):
 *
 * `SELECT ('x' || left(encode(sha256('reconcile-lock:NAME'), 'hex'), 16))::bit(64)::bigint`
 */
export function lockKey(name: string): bigint

/**
 * Acquires the lock of a name for the transaction that `client` is in, which it ends with. It excludes the locks that
 * {@link postgresLocks} gives under that name, and no pooler can break it. Nothing is written to the table: there is no
 * token, and nobody can say who holds it.
 *
 * @param client A client of `pg` after `BEGIN`.
 * @param options A name stands for `{ name }`.
 * @throws `LockError` `E_LOCK_CONTENTION` if somebody holds it for longer than `timeout`, 0 ms by default; the transaction
 *   goes on. `ERR_INVALID_STATE` if there is no transaction.
 * @example
 * await client.query('BEGIN')
 * await lockInTransaction(client, 'reconcile')
 */
export function lockInTransaction(
  client: PostgresClient,
  options?: string | TransactionLockOptions,
): Promise<void>
