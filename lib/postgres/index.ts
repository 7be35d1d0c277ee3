import type * as contract from '../../postgres.js'
import { LockError as SharedLockError } from '../shared/errors.js'
import { createWithLock } from '../shared/with-lock.js'
import { lockKey } from './key.js'
import { HeldLock } from './lock.js'
import { LockTable } from './lock-table.js'
import { Locks } from './locks.js'
import { acquireRequest, breakRequest, lockRequest, schemaOf, settingsOf } from './options.js'
import { SessionPool } from './session-pool.js'
import { createTable, tableName } from './sql.js'
import { lockInTransaction } from './transaction.js'

const LockError: typeof contract.LockError = SharedLockError

function postgresLocks(options: contract.PostgresOptions): contract.PostgresLocks {
  const settings = settingsOf(options)
  const table = new LockTable(settings.schema)
  const locks = new Locks(new SessionPool(settings), table)
  const close = () => locks.close()
  const acquireLock = async (asked?: string | contract.AcquireOptions): Promise<contract.PostgresLock> =>
    locks.acquire(acquireRequest(asked))
  return {
    acquireLock,
    releaseLock: async (asked) =>
      asked instanceof HeldLock ? locks.releaseHeld(asked) : locks.release(lockRequest(asked)),
    withLock: createWithLock({
      acquireLock,
      rollBack: HeldLock.rollBack,
      shorthand: 'name',
      identify: async (options: contract.AcquireOptions) => ({ key: acquireRequest(options).name, options }),
    }) as contract.PostgresLocks['withLock'],
    inspectLock: async (asked) => locks.inspect(lockRequest(asked)),
    breakLock: async (asked) => locks.break(breakRequest(asked)),
    close,
    [Symbol.asyncDispose]: close,
  }
}

const tableSql = (schema?: string): string => `${createTable(tableName(schemaOf(schema)))};\n`

// Only names: Node.js finds the named exports of a CommonJS module by parsing it, without running it.
export = { LockError, lockInTransaction, lockKey, postgresLocks, tableSql } satisfies typeof contract
