import type * as contract from '../../postgres.js'
import { LockError, wrongValue } from '../shared/errors.js'
import { createWithLock } from '../shared/with-lock.js'
import { lockKey } from './key.js'
import { HeldLock } from './lock.js'
import { LockTable } from './lock-table.js'
import { Locks } from './locks.js'
import { acquireRequest, breakRequest, lockRequest, onlyArgument, schemaOf, settingsOf } from './options.js'
import { SessionPool } from './session-pool.js'
import { createTable, tableName } from './sql.js'
import { lockInTransaction } from './transaction.js'

function postgresLocks(options: contract.PostgresOptions): contract.PostgresLocks {
  const settings = settingsOf(options)
  const table = new LockTable(settings.schema)
  const locks = new Locks(new SessionPool(settings), table)
  const close = () => locks.close()
  const acquireLock: contract.PostgresLocks['acquireLock'] = async (...args) =>
    locks.acquire(acquireRequest(onlyArgument('acquireLock', args)))
  return {
    acquireLock,
    releaseLock: async (...args) => {
      const asked = onlyArgument('releaseLock', args)
      return asked instanceof HeldLock ? locks.releaseHeld(asked) : locks.release(lockRequest(asked))
    },
    withLock: createWithLock({
      acquireLock,
      rollBack: HeldLock.rollBack,
      shorthand: 'name',
      identify: async (options: contract.AcquireOptions) => ({ key: acquireRequest(options).name, options }),
      checkCount: (count) => checkConnections(count, settings.maxConnections),
    }) as contract.PostgresLocks['withLock'],
    inspectLock: async (...args) => locks.inspect(lockRequest(onlyArgument('inspectLock', args))),
    breakLock: async (...args) => locks.break(breakRequest(onlyArgument('breakLock', args))),
    close,
    [Symbol.asyncDispose]: close,
  }
}

/** Each lock of a call takes a connection: a call beyond the limit would wait for itself. */
function checkConnections(wanted: number, most: number): void {
  if (wanted > most)
    wrongValue(
      `The "targets" argument has ${wanted} names, each of which needs a connection: raise "maxConnections", which is ${most}`,
    )
}

const tableSql = (schema?: string): string => `${createTable(tableName(schemaOf(schema)))};\n`

// Only names: Node.js finds the named exports of a CommonJS module by parsing it, without running it.
export = { LockError, lockInTransaction, lockKey, postgresLocks, tableSql } satisfies typeof contract
