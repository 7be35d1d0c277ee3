/**
 * The lock of `reconcile-lock` for several machines: a session of PostgreSQL holds it, and the server lets go of it
 * when the session ends, as a kernel does for files.
 *
 * Between the loss of a session and its notice two holders can believe in the lock. What protects the data is
 * {@link PostgresLock.token}.
 *
 * @module reconcile-lock/postgres
 */
import { HeldLock } from './lock.js'
import { Locks } from './locks.js'
import { acquireRequest, breakRequest, lockRequest, schemaOf, settingsOf } from './options.js'
import { Rows } from './rows.js'
import { Sessions } from './sessions.js'
import { withLockOf } from './shared.js'
import { createTable, tableName } from './sql.js'
import type { AcquireOptions, PostgresLock, PostgresLocks, PostgresOptions } from './types.js'

export { lockKey } from './key.js'
export { LockError } from './shared.js'
export { lockInTransaction } from './transaction.js'
export type * from './types.js'

/**
 * The locks of one database. Nothing is connected before the first call.
 *
 * @throws TypeError, RangeError for wrong options.
 * @example
 * const locks = postgresLocks({ connectionString: process.env.DATABASE_URL })
 * await using lock = await locks.acquireLock({ name: 'reconcile', timeout: 30_000 })
 * await postPayments({ token: lock.token, signal: lock.signal })
 */
export function postgresLocks(options: PostgresOptions): PostgresLocks {
  const settings = settingsOf(options)
  const rows = new Rows(settings.schema)
  const locks = new Locks(new Sessions(settings), rows)
  const close = () => locks.close()
  const acquireLock = async (asked?: string | AcquireOptions): Promise<PostgresLock> =>
    locks.acquire(acquireRequest(asked))
  return {
    acquireLock,
    releaseLock: async (asked) =>
      asked instanceof HeldLock ? asked.release() : locks.release(lockRequest(asked)),
    withLock: withLockOf(acquireLock),
    inspectLock: async (asked) => locks.inspect(lockRequest(asked)),
    breakLock: async (asked) => locks.break(breakRequest(asked)),
    close,
    [Symbol.asyncDispose]: close,
  }
}

/**
 * The SQL that creates the table, for those who may when the role that holds locks may not. That role needs `SELECT`,
 * `INSERT` and `UPDATE` on it.
 *
 * @param schema As in {@link PostgresOptions.schema}.
 */
export function tableSql(schema?: string): string {
  return `${createTable(tableName(schemaOf(schema)))};\n`
}
