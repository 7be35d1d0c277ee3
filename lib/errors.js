'use strict'

const { getSystemErrorMap } = require('node:util')

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
  const message = `${code}: ${reason}, ${syscall} '${path}'`
  return Object.assign(new Error(message), { errno: -errno, code, syscall, path })
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
 * @param {string} code
 * @param {string} message
 * @param {string} path
 * @param {string | undefined} reason
 * @param {number} pid 0 if the holder is not known
 * @param {number} createdAt
 * @param {string | undefined} host
 * @param {number | undefined} thread
 */
function lockError(code, message, path, reason, pid, createdAt, host, thread) {
  if (code.startsWith('ERR_')) return Object.assign(new TypeError(message), { code })
  /** @type {import('../index.js').Holder | undefined} */
  let holder
  if (pid !== 0) {
    holder = { pid, createdAt }
    if (host != null) holder.host = host
    if (thread != null) holder.thread = thread
  }
  const recoverable = code === 'E_LOCK_CONTENTION'
  const make = () => new LockError(message, { code, path, recoverable, holder, reason: reason ?? undefined })
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

module.exports = { LockError, lockError, systemError, isContention, withoutStack }
