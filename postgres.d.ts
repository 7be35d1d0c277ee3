/// <reference lib="esnext.disposable" />

/**
 * The lock of `reconcile-lock` for several machines: a session of PostgreSQL holds it, and the server releases it
 * when the session ends, as a kernel does for files.
 *
 * Until a process detects the loss of its session, another process may hold the lock too.
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

/** The database, by `connectionString`, `connect` or `pool`, and the timeouts and limits of its connections. */
export interface PostgresOptions {
  /** A URL for `pg`, such as `postgres://user@host:5432/database`. Variables such as `PGUSER` complete it. */
  connectionString?: string | undefined
  /** Makes a new client that is not connected yet, for options that a URL does not have. */
  connect?: (() => PostgresClient | Promise<PostgresClient>) | undefined
  /**
   * A `pg.Pool` whose clients are used. Each lock that is held or waited for uses one client alone, and returns it with
   * its previous settings. After `pool.end()` calls reject with `ERR_INVALID_STATE`.
   */
  pool?: PostgresPool | undefined
  /**
   * The maximum number of connections. Each held lock uses one, and so do all calls that wait for one name in one mode.
   * A call beyond the maximum waits until its `timeout`. Default: 10.
   */
  maxConnections?: number | undefined
  /** The schema of the table `reconcile_lock`. Default: the first of the session's `search_path`. */
  schema?: string | undefined
  /**
   * How long the database and this process may be disconnected before both end the session, in milliseconds. The
   * holder detects it within half of this time. The server grants the lock to other sessions after all of it. 4000 to
   * 3600000. Default: 20000.
   */
  sessionTimeout?: number | undefined
  /**
   * How long a connection attempt may take, in milliseconds, and the first answer after the `timeout` of a call.
   * Default: 10000.
   */
  connectTimeout?: number | undefined
}

/** The part of a client of the package `pg` that this package uses; `pg` documents it. */
export interface PostgresClient {
  /** Opens the connection. */
  connect(): Promise<unknown>
  /** Runs one statement with values, or several statements without values. */
  query(statement: string | PostgresStatement): Promise<PostgresResult>
  /** Closes the connection. */
  end(): Promise<void>
  /** The connection has failed. */
  on(event: 'error', listener: (error: Error) => void): unknown
  /** The connection has ended. */
  on(event: 'end', listener: () => void): unknown
  /** A channel that the session listens on was notified. */
  on(event: 'notification', listener: (message: { channel: string }) => void): unknown
  /** The host of the server, if known. */
  readonly host?: string | undefined
  /** The port of the server, if known. */
  readonly port?: number | undefined
  /** The name of the database, if known. */
  readonly database?: string | undefined
}

/** The part of a `pg.Pool` that this package uses. */
export interface PostgresPool {
  /** Takes a connected client. */
  connect(): Promise<PostgresPoolClient>
  /** The number of its clients. A client does not have this property. */
  readonly totalCount: number
}

/** The part of a client of a `pg.Pool` that this package uses. Older types of `pg` give it no `end`. */
export interface PostgresPoolClient extends Omit<PostgresClient, 'end'> {
  /** Returns the client to the pool. With an error, the pool does not use it again. */
  release(error?: Error | boolean): void
}

/** A statement of {@link PostgresClient.query}. */
export interface PostgresStatement {
  /** Its name in the session, if it is prepared. */
  name?: string
  /** The SQL. */
  text: string
  /** Its parameters. */
  values: unknown[]
}

/** The part of a result of {@link PostgresClient.query} that this package uses. */
export interface PostgresResult {
  /** One object for each row. */
  rows: unknown[]
}

/** Names a lock, and the message of its contention error. */
export interface LockOptions {
  /** The name of the lock, up to 255 characters. Default: `reconcile`. */
  name?: string | undefined
  /** The complete `message` of the contention error. Default: `Another reconcile run is in progress`. */
  message?: string | undefined
}

/** The options of {@link PostgresLocks.acquireLock}. */
export interface AcquireOptions
  extends LockOptions,
    Pick<FileAcquireOptions, 'timeout' | 'signal' | 'onWait'> {
  /**
   * Acquires in shared mode: any number of calls can hold the lock in shared mode at once, but none while a call without
   * `shared` holds it. Default: `false`. A call without `shared` that waits for readers refuses new ones. An upgrade in
   * place is refused: release the lock first. It is `pg_advisory_lock_shared` on {@link lockKey}, and writes no row.
   */
  shared?: boolean | undefined
}

/** The options of {@link lockInTransaction}. */
export interface TransactionLockOptions extends LockOptions, Pick<FileAcquireOptions, 'timeout' | 'signal'> {}

/** The options of {@link PostgresLocks.breakLock}. */
export interface PostgresBreakOptions extends AcquireOptions, Pick<BreakOptions, 'force'> {}

/** Names a lock: by name; by options, of which those that only an acquire uses are ignored; or by an acquired lock. */
export type LockTarget = string | AcquireOptions | PostgresLock

/** The holder of a lock. `createdAt` is a time of the server's clock. */
export interface PostgresHolder extends Holder {
  /** The session's `application_name`. */
  application: string
}

/** The previous holder of a lock that was taken over. */
export interface PostgresTakenOver extends FileTakenOver {
  holder: PostgresHolder
}

/** The result of {@link PostgresLocks.inspectLock}. */
export interface PostgresLockStatus extends Omit<FileLockStatus, 'holder' | 'command' | 'user' | 'readers'> {
  /** The holder, or the last one of a stale lock, if the table names it. */
  holder?: PostgresHolder
  /** The token of the last acquisition, if there was one. */
  token?: bigint
  /** The sessions that hold the lock in {@link AcquireOptions.shared} mode. Missing if there are none. */
  readers?: PostgresReader[]
}

/** A session that holds a lock in shared mode. The server hides the sessions of other roles from some roles. */
export interface PostgresReader {
  /** The process of the server, or 0 for a prepared transaction. */
  backend: number
  /** The role of the session. */
  user?: string
  /** Its `application_name`. */
  application?: string
}

/**
 * A lock that this process holds until it is released or its session ends.
 *
 * The session can end before this process detects it. **Until then, another process may hold the lock too.**
 * {@link PostgresLock.token} protects the data: write it along with the data, and refuse a lower one.
 */
export interface PostgresLock {
  /** The lock in errors and diagnostics: `postgresql://HOST:PORT/DATABASE#NAME`, without a password. */
  readonly path: string
  /** The name of the lock. */
  readonly name: string
  /**
   * The fencing token. The later of two acquisitions of a name has the higher token, unless both the row of the name
   * and time on the server's clock were lost. It is the time of that clock in microseconds since the Unix epoch, or one
   * more than the last token if that is higher. A lock in shared mode has the token of the last acquisition without
   * `shared`, or 0.
   */
  readonly token: bigint
  /** Aborted when the lock may have been lost: its session has ended, or the server does not answer. */
  readonly signal: AbortSignal
  /** This process, as recorded in the table. */
  readonly holder: PostgresHolder
  /** Set if the previous holder did not release the lock. It may have stopped in the middle of its work. */
  readonly takenOver?: PostgresTakenOver | undefined
  /** Whether the lock is neither released nor detected as lost. Does not query the server. */
  readonly isHeld: () => boolean
  /**
   * Asks the server whether the lock is still held. Use it just before a step that cannot be undone.
   *
   * @throws `LockError` `E_LOCK_LOST` if it is not, if it was released, or if the server does not answer. The error of the
   * server, such as `57014`, if it refuses the query: then the lock may still be held.
   */
  readonly confirm: () => Promise<void>
  /**
   * Releases the lock. A second call returns the promise of the first one while that is pending, and does nothing after
   * that.
   *
   * Rejects with a `LockError` `E_LOCK_LOST` if the session had ended before, because another process may have held the
   * lock meanwhile. If the server still has that session, the call ends it first. Rejects with the error of the server,
   * such as `55P03`, if the server does not write the row; then `takenOver` of the next holder is set. In each case this
   * process no longer holds the lock.
   */
  readonly release: () => Promise<void>
  /** For `JSON.stringify`. */
  toJSON(): Pick<PostgresLock, 'path' | 'name' | 'holder' | 'takenOver'> & {
    /** The token in decimal digits, because JSON has no `bigint`. */
    token: string
  }
  /** {@link PostgresLock.release}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** The locks of one database, as {@link postgresLocks} returns them. */
export interface PostgresLocks {
  /**
   * Acquires a lock, or rejects. It waits for a holder only if `timeout` is set. The lock is not reentrant. A lock of a
   * holder whose session has ended is taken over; {@link PostgresLock.takenOver} names that holder.
   *
   * @param options A name stands for `{ name }`.
   * @throws `LockError` `E_LOCK_CONTENTION`, `E_LOCK_CONNECTIONS`, `E_LOCK_POOLER`, `E_LOCK_STANDBY`,
   *   `E_LOCK_UNSUPPORTED`, `E_LOCK_TABLE`, `E_LOCK_COLLISION`, `E_LOCK_DRIVER`. Errors of `pg`, the server and the
   *   system, with `code` and `recoverable`. An argument error, before any query.
   */
  acquireLock(options?: string | AcquireOptions): Promise<PostgresLock>
  /**
   * Releases the lock if it was acquired through this object, and does nothing otherwise.
   *
   * @throws The errors of {@link PostgresLock.release}.
   */
  releaseLock(target?: LockTarget): Promise<void>
  /**
   * Runs `fn` while it holds the lock, and resolves to the result of `fn`. If `fn` fails, the lock is released too, the
   * call rejects with the error of `fn`, and an error of the release is emitted as a process warning.
   *
   * @throws The errors of {@link PostgresLocks.acquireLock}, `fn` and {@link PostgresLock.release}.
   */
  withLock<T>(fn: (lock: PostgresLock) => T | Promise<T>, options?: string | AcquireOptions): Promise<T>
  /**
   * Runs `fn` while it holds several locks, which it gets in the order of `targets`. The call acquires them in another
   * order, which is the same for all calls, so that two of them cannot wait for each other. If it does not acquire one,
   * it rolls back the others and rejects.
   *
   * @param targets Names, or objects with `name` and `message`: at most `maxConnections`. Two must not have one name.
   * @param options For all locks. `timeout` is for all of them together.
   * @throws The errors of {@link PostgresLocks.acquireLock}, `fn` and {@link PostgresLock.release}.
   */
  withLock<T, const Targets extends readonly (string | Pick<AcquireOptions, 'name' | 'message'>)[]>(
    fn: (locks: { -readonly [Index in keyof Targets]: PostgresLock }) => T | Promise<T>,
    targets: Targets,
    options?: Omit<AcquireOptions, 'name'>,
  ): Promise<T>
  /**
   * Returns the state of the lock and its holder. Does not change it, and does not delay an acquire.
   *
   * @throws `LockError` `E_LOCK_CONNECTIONS`, `E_LOCK_POOLER`, `E_LOCK_STANDBY`, `E_LOCK_TABLE`, `E_LOCK_DRIVER`. The
   *   errors of `pg`, the server and the system, and the argument errors, as for {@link PostgresLocks.acquireLock}.
   */
  inspectLock(target?: LockTarget): Promise<PostgresLockStatus>
  /**
   * Clears the row of a holder whose session has ended, and resolves to whether there was one. An acquire does not need
   * that.
   *
   * With `force` it ends the session that the table names as the holder. That needs the same role, or
   * `pg_signal_backend` and `pg_read_all_stats`. It does not stop the holder, whose `signal` is aborted and whose
   * release fails with `E_LOCK_LOST`.
   *
   * @throws `LockError` `E_LOCK_CONTENTION` if a session holds the lock and `force` is not set, or if the table does
   *   not name the session that has the lock's key: that may be the advisory lock of another program. The errors of
   *   {@link PostgresLocks.inspectLock}.
   */
  breakLock(target?: LockTarget | PostgresBreakOptions): Promise<boolean>
  /** Closes the idle connections, which otherwise close after 5 s. Locks stay held. */
  close(): Promise<void>
  /** {@link PostgresLocks.close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * The locks of one database. The first call connects.
 *
 * @throws TypeError, RangeError for invalid options.
 * @example
 * const locks = postgresLocks({ connectionString: process.env.DATABASE_URL })
 * await using lock = await locks.acquireLock({ name: 'reconcile', timeout: 30_000 })
 * await postPayments({ token: lock.token, signal: lock.signal })
 */
export function postgresLocks(options: PostgresOptions): PostgresLocks

/**
 * The SQL that creates the table, if the role that holds locks may not create it. That role needs `SELECT`, `INSERT`
 * and `UPDATE` on the table, which must belong to it, to a role that it is a member of, or to a superuser.
 *
 * @param schema As in {@link PostgresOptions.schema}.
 */
export function tableSql(schema?: string): string

/**
 * The key of the advisory lock: the first eight bytes of the SHA-256 of `reconcile-lock:NAME` in UTF-8, as a signed
 * big-endian integer. In SQL (PostgreSQL 11 and newer):
 *
 * `SELECT ('x' || left(encode(sha256('reconcile-lock:NAME'), 'hex'), 16))::bit(64)::bigint`
 */
export function lockKey(name: string): bigint

/**
 * Acquires the lock of a name until the end of the transaction of `client`. It excludes the locks that
 * {@link postgresLocks} acquires under that name, and also works through a pooler in transaction mode. It writes no
 * row: there is no token, and other processes cannot read the holder. `ROLLBACK TO` an earlier savepoint releases it.
 * At the isolation level `REPEATABLE READ` and above the transaction reads the data as of its first statement. After an
 * abort, roll back: the last attempt can have acquired the lock.
 *
 * @param client A client of `pg` after `BEGIN`.
 * @param options A name stands for `{ name }`.
 * @throws `LockError` `E_LOCK_CONTENTION` if another session holds the lock for longer than `timeout`, 0 ms by default.
 *   The transaction continues. `E_LOCK_STANDBY`, `E_LOCK_UNSUPPORTED`. `ERR_INVALID_STATE` if there is no transaction.
 * @example
 * await client.query('BEGIN')
 * await lockInTransaction(client, 'reconcile')
 */
export function lockInTransaction(
  client: Omit<PostgresClient, 'end'>,
  options?: string | TransactionLockOptions,
): Promise<void>
