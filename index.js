'use strict'

const { acquireLock, acquireLockSync, withLock } = require('./lib/acquire.js')
const { LockError } = require('./lib/errors.js')
const { releaseLock, releaseLockSync } = require('./lib/lock.js')
const native = require('./lib/native.js')

const { inspectSync: inspectLockSync, resolvePath: resolveLockPath } = native

/** @type {typeof import('./index.js').inspectLock} */
const inspectLock = async (target) => native.inspect(target)

/** @type {typeof import('./index.js').breakLock} */
const breakLock = async (target) => native.breakLock(target)

// Names alone: Node.js finds the named exports of a CommonJS module by reading, not by running.
module.exports = {
  LockError,
  acquireLock,
  acquireLockSync,
  breakLock,
  inspectLock,
  inspectLockSync,
  releaseLock,
  releaseLockSync,
  resolveLockPath,
  withLock,
}
