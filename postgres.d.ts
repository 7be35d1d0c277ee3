/// <reference lib="esnext.disposable" />

/**
 * The lock of `reconcile-lock` for several machines: a session of PostgreSQL holds it, and the server releases it
 * when the session ends, as a kernel does for files.
 *
 * Until a process notices the loss of its session, another process may hold the lock as well.
 * {@link PostgresLock.token} protects the data.
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

/** The database, by one of `connectionString`, `connect` and `pool`, and the times and limits of its connections. */
export interface PostgresOptions {
  /** As `pg` takes it: `postgres://user@host:5432/database`. `PGUSER` and its like complete it. */
  connectionString?: string | undefined
  /** Makes a new client that is not connected yet, for options that a URL does not have. */
  connect?: (() => PostgresClient | Promise<PostgresClient>) | undefined
  /**
   * A `pg.Pool` whose clients are used. Each lock that is held or waited for has one of them to itself, and returns it
   * with the settings that it had.
   */
  pool?: PostgresPool | undefined
  /**
   * How many connections there are at most: one for each lock that is held, and one for each name that is waited for,
   * for any number of calls. A call beyond that waits within its `timeout`. Default: 10.
   */
  maxConnections?: number | undefined
  /** The schema of the table `reconcile_lock`. Default: the first of the session's `search_path`. */
  schema?: string | undefined
  /**
   * How long the database and this process may be out of touch before each ends the session, in milliseconds. The
   * holder notices after half of it at the latest, the server grants the lock to others after all of it. At least 4000.
   * Default: 20000.
   */
  sessionTimeout?: number | undefined
  /** How long connecting may take, in milliseconds. Default: 10000. */
  connectTimeout?: number | undefined
}

/** The used part of a client of the package `pg`, as that package documents it. */
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

/** The used part of a `pg.Pool`. */
export interface PostgresPool {
  /** Takes a connected client. */
  connect(): Promise<PostgresPoolClient>
}

/** The used part of a client of a `pg.Pool`. */
export interface PostgresPoolClient extends PostgresClient {
  /** Returns it to the pool; with an error it is not lent again. */
  release(error?: Error | boolean): void
}

/** A statement of {@link PostgresClient.query}. */
export interface PostgresStatement {
  /** Its name in the session, if it is to be prepared once. */
  name?: string
  /** The SQL. */
  text: string
  /** Its parameters. */
  values: unknown[]
}

/** The used part of a result of {@link PostgresClient.query}. */
export interface PostgresResult {
  /** One object for each row. */
  rows: unknown[]
}

/** Names a lock, and the message of its contention error. */
export interface LockOptions {
  /** The name of the lock, up to 255 characters. Default: `reconcile`. */
  name?: string | undefined
  /** The whole `message` of the contention error. Default: `Another reconcile run is in progress`. */
  message?: string | undefined
}

/** The options of {@link PostgresLocks.acquireLock}. */
export interface AcquireOptions
  extends LockOptions,
    Pick<FileAcquireOptions, 'timeout' | 'signal' | 'onWait'> {}

/** The options of {@link lockInTransaction}. */
export interface TransactionLockOptions extends LockOptions, Pick<FileAcquireOptions, 'timeout' | 'signal'> {}

/** The options of {@link PostgresLocks.breakLock}. */
export interface PostgresBreakOptions extends AcquireOptions, Pick<BreakOptions, 'force'> {}

/** Names a lock: by name, by options, of which `timeout`, `signal` and `onWait` are ignored, or by an acquired lock. */
export type LockTarget = string | AcquireOptions | PostgresLock

/** The holder of a lock. `createdAt` is of the server's clock. */
export interface PostgresHolder extends Holder {
  /** The session's `application_name`. */
  application: string
}

/** A take-over: from which holder, and why. */
export interface PostgresTakenOver extends FileTakenOver {
  holder: PostgresHolder
}

/** The result of {@link PostgresLocks.inspectLock}. */
export interface PostgresLockStatus extends Omit<FileLockStatus, 'holder'> {
  /** The holder, or the previous one of a stale lock, if the table names it. */
  holder?: PostgresHolder
  /** The token of the last acquisition, if there was one. */
  token?: bigint
}

/**
 * A lock that this process holds until it is released or its session ends.
 *
 * The session can end without this process, which notices it later: **until then another process may hold the lock as
 * well.** {@link PostgresLock.token} protects the data: write it along with the data, and refuse a lower one.
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
  /** Is aborted when the lock may have been lost: its session has ended, or no longer answers. */
  readonly signal: AbortSignal
  /** This process, as in the table. */
  readonly holder: PostgresHolder
  /** Set if the previous holder never released the lock. It may have died half-way. */
  readonly takenOver?: PostgresTakenOver | undefined
  /** Whether the lock is held, as far as this process has noticed. Does not query the server. */
  readonly isHeld: () => boolean
  /**
   * Queries the server whether the lock is still held, for the moment before a step that cannot be undone.
   *
   * @throws `LockError` `E_LOCK_LOST` if it is not, or if the server does not answer.
   */
  readonly confirm: () => Promise<void>
  /**
   * Releases the lock. A second release does nothing.
   *
   * Rejects with a `LockError` `E_LOCK_LOST` if the session had ended before, so that another process may have held the
   * lock meanwhile. The rest of that session on the server is ended first. In both cases this process no longer holds
   * the lock.
   */
  readonly release: () => Promise<void>
  /** For `JSON.stringify`. */
  toJSON(): Pick<PostgresLock, 'path' | 'name' | 'holder' | 'takenOver'> & {
    /** The token in decimal digits, since JSON has no `bigint`. */
    token: string
  }
  /** As {@link PostgresLock.release}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** The locks of one database, as {@link postgresLocks} returns them. */
export interface PostgresLocks {
  /**
   * Acquires a lock, or rejects. It waits for a holder only if `timeout` is set. Not reentrant. It takes over a lock
   * whose holder's session has ended; {@link PostgresLock.takenOver} names that holder.
   *
   * @param options A name stands for `{ name }`.
   * @throws `LockError` `E_LOCK_CONTENTION`, `E_LOCK_CONNECTIONS`, `E_LOCK_POOLER`, `E_LOCK_STANDBY`,
   *   `E_LOCK_UNSUPPORTED`, `E_LOCK_TABLE`, `E_LOCK_COLLISION`, `E_LOCK_DRIVER`; errors of the server and the system as
   *   `pg` has them, with a `code` and with `recoverable`; an error of an argument, before any call of the server.
   */
  acquireLock(options?: string | AcquireOptions): Promise<PostgresLock>
  /** Releases the lock if it was acquired through this object, and does nothing otherwise. */
  releaseLock(target?: LockTarget): Promise<void>
  /**
   * Runs `fn` while holding the lock and returns its result. The lock is released also if `fn` fails: the call then
   * rejects with that error, and an error of the release becomes a process warning.
   */
  withLock<T>(fn: (lock: PostgresLock) => T | Promise<T>, options?: string | AcquireOptions): Promise<T>
  /** Returns the state of the lock and its holder. Changes nothing, and disturbs no acquirer. */
  inspectLock(target?: LockTarget): Promise<PostgresLockStatus>
  /**
   * Clears the row of a dead holder; `true` if there was one. An acquirer does not need that.
   *
   * With `force` it ends the session that the table names as the holder's, which takes the same role, or
   * `pg_signal_backend` and `pg_read_all_stats`. The holder is not stopped; its `signal` is aborted and its release
   * fails with `E_LOCK_LOST`.
   *
   * @throws `LockError` `E_LOCK_CONTENTION` if a session holds it and `force` is off, or if the table does not name the
   *   session that has the lock's key: it may be another program's advisory lock.
   */
  breakLock(target?: LockTarget | PostgresBreakOptions): Promise<boolean>
  /** Closes the idle connections, which also close after 5 s. Locks stay held. */
  close(): Promise<void>
  /** As {@link PostgresLocks.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * The locks of one database. The first call connects.
 *
 * @throws TypeError, RangeError for wrong options.
 * @example
 * const locks = postgresLocks({ connectionString: process.env.DATABASE_URL })
 * await using lock = await locks.acquireLock({ name: 'reconcile', timeout: 30_000 })
 * await postPayments({ token: lock.token, signal: lock.signal })
 */
export function postgresLocks(options: PostgresOptions): PostgresLocks

/**
 * The SQL that creates the table, for a role that may, if the role that holds locks may not. The latter needs `SELECT`,
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
 * Acquires the lock of a name until the end of the transaction that `client` is in. It excludes the locks that
 * {@link postgresLocks} acquires under that name, and works through any pooler. It writes no row: there is no token,
 * and the holder is unknown to others.
 *
 * @param client A client of `pg` after `BEGIN`.
 * @param options A name stands for `{ name }`.
 * @throws `LockError` `E_LOCK_CONTENTION` if another session holds it for longer than `timeout`, 0 ms by default; the
 *   transaction goes on. `ERR_INVALID_STATE` if there is no transaction.
 * @example
 * await client.query('BEGIN')
 * await lockInTransaction(client, 'reconcile')
 */
export function lockInTransaction(
  client: PostgresClient,
  options?: string | TransactionLockOptions,
): Promise<void>
