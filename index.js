'use strict'

const { acquireLock, acquireLockSync, withLock } = require('./lib/acquire.js')
const { LockError } = require('./lib/errors.js')
const { releaseLock, releaseLockSync } = require('./lib/lock.js')
const { withoutNulls } = require('./lib/lock.js')
const { native, settled, resultOf } = require('./lib/native.js')
const { acquireOptions, breakOptions } = require('./lib/options.js')

/** @type {typeof import('./index.js').inspectLock} */
async function inspectLock(...args) {
  const { cwd, file } = acquireOptions('inspectLock', args)
  return withoutNulls(await settled(native.inspect(cwd, file)))
}

/** @type {typeof import('./index.js').inspectLockSync} */
function inspectLockSync(...args) {
  const { cwd, file } = acquireOptions('inspectLockSync', args)
  return withoutNulls(resultOf(native.inspectSync(cwd, file)))
}

/** @type {typeof import('./index.js').breakLock} */
async function breakLock(...args) {
  const { cwd, file, message, force } = breakOptions(args)
  return settled(native.breakLock(cwd, file, message, force))
}

/** @type {typeof import('./index.js').resolveLockPath} */
function resolveLockPath(...args) {
  const { cwd, file } = acquireOptions('resolveLockPath', args)
  return resultOf(native.resolvePath(cwd, file))
}

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
