'use strict'

const { resolve } = require('node:path')

/**
 * @typedef {import('../index.js').Lock | import('../postgres/dist/index.js').PostgresLock} Lock
 * @typedef {import('../index.js').LockStatus | import('../postgres/dist/index.js').PostgresLockStatus} LockStatus
 * @typedef {import('../postgres/dist/index.js').AcquireOptions} AcquireOptions
 * @typedef {{ file?: string, legacy?: boolean, postgres?: string, lockName?: string }} Names what a person says of a lock
 */

/**
 * The lock that a person has named, on a file or on PostgreSQL.
 * @typedef {object} Named
 * @property {(options: AcquireOptions) => Promise<Lock>} acquire
 * @property {(lock: Lock) => number | undefined} descriptorOf by which a command can inherit what it acquired
 * @property {() => Promise<LockStatus>} inspect
 * @property {(force: boolean) => Promise<boolean>} break
 * @property {() => Promise<string>} path
 * @property {() => Promise<void>} close
 */

/**
 * @param {string | undefined} file
 * @param {boolean | undefined} legacy
 * @returns {Named}
 */
function onFile(file, legacy) {
  // Loaded where it is wanted: nothing else needs the native binary.
  const { acquireLock, breakLock, inspectLock, resolveLockPath } = require('../index.js')
  return {
    acquire: (options) => acquireLock({ file, legacy, ...options }),
    descriptorOf: require('../lib/lock.js').Lock.descriptorOf,
    inspect: () => inspectLock({ file }),
    break: (force) => breakLock({ file, force }),
    path: async () => (file === undefined ? resolveLockPath() : resolve(file)),
    close: async () => {},
  }
}

/**
 * @param {string} connectionString
 * @param {string | undefined} name
 * @returns {Named}
 */
function onPostgres(connectionString, name) {
  const { postgresLocks } = require('../postgres/dist/index.js')
  const locks = postgresLocks({ connectionString })
  return {
    acquire: (options) => locks.acquireLock({ name, ...options }),
    descriptorOf: () => undefined,
    inspect: () => locks.inspectLock({ name }),
    break: (force) => locks.breakLock({ name, force }),
    path: async () => (await locks.inspectLock({ name })).path,
    close: () => locks.close(),
  }
}

/**
 * Does something with a lock, and lets go of what it needed for that, which would keep this process running.
 * @template T
 * @param {Names} names
 * @param {(lock: Named) => Promise<T>} work
 */
async function withNamed({ file, legacy, postgres, lockName }, work) {
  const lock = postgres === undefined ? onFile(file, legacy) : onPostgres(postgres, lockName)
  try {
    return await work(lock)
  } finally {
    await lock.close()
  }
}

module.exports = { withNamed }
