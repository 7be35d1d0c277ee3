'use strict'

const { getSystemErrorMap } = require('node:util')

/** What the errors of all copies of this package have: two of them may be loaded, in two realms or two versions. */
const BRAND = Symbol.for('reconcile-lock.LockError')

class LockError extends Error {
  /**
   * @param {string} message
   * @param {{ code: string, path: string, recoverable: boolean, holder?: import('../index.js').Holder | undefined, reason?: string | undefined }} about
   */
  constructor(message, { code, path, recoverable, holder, reason }) {
    super(message)
    this.code = code
    this.path = path
    this.recoverable = recoverable
    if (holder !== undefined) this.holder = holder
    if (reason !== undefined) this.reason = reason
  }
}
Object.defineProperty(LockError.prototype, 'name', { value: 'LockError', configurable: true, writable: true })
Object.defineProperty(LockError.prototype, BRAND, { value: true })
Object.defineProperty(LockError, Symbol.hasInstance, {
  /** @type {(this: Function, value: unknown) => boolean} */
  value(value) {
    if (this !== LockError) return Function.prototype[Symbol.hasInstance].call(this, value)
    return typeof value === 'object' && value !== null && BRAND in value
  },
})

/**
 * What the system refuses looks like an error of `node:fs`.
 * @param {number} systemErrno the system's own number
 * @param {string} syscall
 * @param {string} path
 * @param {string} text
 */
function systemError(systemErrno, syscall, path, text) {
  const errors = getSystemErrorMap()
  // Loaded where there is need of it.
  const errno =
    process.platform === 'win32' ? require('./win32-errors.js').fromWin32(systemErrno, errors) : systemErrno
  const [code, reason] = errors.get(-errno) ?? unmapped(errno, text)
  const denied = syscall === 'open' && (code === 'EACCES' || code === 'EPERM') ? ownerOf(path) : ''
  const message = `${code}: ${reason}, ${syscall} '${path}'${denied}`
  return Object.assign(new Error(message), { errno: -errno, code, syscall, path })
}

/**
 * Whose file or directory it is that this process may not use, and what to do about it.
 * @param {string} path
 */
function ownerOf(path) {
  // Loaded where there is need of them.
  const { lstatSync } = require('node:fs')
  const { dirname } = require('node:path')
  const us = process.geteuid?.()
  if (us === undefined) return ''
  const stat = (/** @type {string} */ of) => {
    try {
      return lstatSync(of)
    } catch {
      return undefined
    }
  }
  const file = stat(path)
  if (file) {
    const isOurs = file.uid === us
    return isOurs
      ? '; the file is ours, and its mode forbids it: chmod u+rw makes it usable'
      : `; the file belongs to user ${file.uid}, and this process is user ${us}: run it as that user, or remove the file with breakLock({ force: true })`
  }
  const directory = stat(dirname(path))
  return directory
    ? `; the directory belongs to user ${directory.uid}, and this process, user ${us}, may not create files in it`
    : ''
}

/**
 * Node.js has no name for some errors, such as EDQUOT, that a lock file can meet.
 * @param {number} errno
 * @param {string} text
 */
function unmapped(errno, text) {
  const reason = text.replace(/ \(os error \d+\)$/, '').toLowerCase()
  // The numbers in `constants` are the C library's, not those of Windows.
  if (process.platform === 'win32') return ['UNKNOWN', reason]
  // Loaded by few, and it costs more than this file.
  const { constants } = require('node:os')
  const named = Object.entries(constants.errno).find(([, number]) => number === errno)
  return [named?.[0] ?? `E${errno}`, reason]
}

/**
 * @param {new (message: string) => Error} Class of this realm, as Node's own are
 * @param {string} code
 * @param {string} message
 */
const argumentError = (Class, code, message) => Object.assign(new Class(message), { code })

/**
 * The error of a failed call, from what the addon returned for it.
 * @param {any[]} failure see `src/node/failure.rs`
 */
function errorOf(failure) {
  if (typeof failure[0] === 'number') return systemError(failure[0], failure[1], failure[2], failure[3])
  const [code, message, path, reason = undefined, pid, createdAt, host, thread] = failure
  if (code.startsWith('ERR_')) return argumentError(TypeError, code, message)
  /** @type {import('../index.js').Holder | undefined} */
  let holder
  if (pid !== undefined) {
    holder = { pid, createdAt }
    if (host != null) holder.host = host
    if (thread != null) holder.thread = thread
  }
  const recoverable = code === 'E_LOCK_CONTENTION'
  const make = () => new LockError(message, { code, path, recoverable, holder, reason })
  return recoverable ? withoutStack(make) : make()
}

/**
 * A refusal is an answer, not a fault: a stack trace would cost as much as all its system calls.
 * @template T
 * @param {() => T} make
 * @returns {T}
 */
function withoutStack(make) {
  const limit = Error.stackTraceLimit
  // Frozen intrinsics would throw at an assignment.
  if (!Reflect.set(Error, 'stackTraceLimit', 0)) return make()
  try {
    return make()
  } finally {
    Error.stackTraceLimit = limit
  }
}

/**
 * @param {unknown} error
 * @returns {error is import('../index.js').LockError}
 */
const isContention = (error) => error instanceof LockError && error.code === 'E_LOCK_CONTENTION'

module.exports = { LockError, argumentError, errorOf, isContention, withoutStack }
