'use strict'

const { constants } = require('node:os')
const { emitWarning } = require('node:process')
const { getSystemErrorMap } = require('node:util')
const { threadId } = require('node:worker_threads')
const native = require('./binding.js')

/**
 * @typedef {import('./index.js').LockOptions} LockOptions
 * @typedef {import('./index.js').AcquireOptions} AcquireOptions
 */

class LockError extends Error {
  /**
   * @param {string} message
   * @param {{ code: string, path: string, recoverable: boolean, holder?: import('./index.js').Holder | undefined, reason?: string | undefined }} about
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
 * @param {number} errno
 * @param {string} syscall
 * @param {string} path
 * @param {string} text
 */
function systemError(errno, syscall, path, text) {
  const [code, reason] = getSystemErrorMap().get(-errno) ?? unmapped(errno, text)
  const message = `${code}: ${reason}, ${syscall} '${path}'`
  return Object.assign(new Error(message), { errno: -errno, code, syscall, path })
}

/**
 * Node.js has no name for some errors, such as EDQUOT, that a lock file can meet.
 * @param {number} errno
 * @param {string} text
 */
function unmapped(errno, text) {
  const named = Object.entries(constants.errno).find(([, number]) => number === errno)
  return [named?.[0] ?? `E${errno}`, text.replace(/ \(os error \d+\)$/, '').toLowerCase()]
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
  /** @type {import('./index.js').Holder | undefined} */
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
 * A promise that settles in a later turn of the event loop.
 * @param {boolean} ok
 * @param {unknown} value
 */
function later(ok, value) {
  return new Promise((resolve, reject) => {
    setImmediate(ok ? resolve : reject, value)
  })
}

/**
 * Watches for the exit of this process or worker while it holds a lock.
 * @param {boolean} on
 */
function watchExit(on) {
  if (on) process.on('exit', native.releaseAll)
  else queueMicrotask(stopWatching)
}

function stopWatching() {
  if (native.stopWatching()) process.removeListener('exit', native.releaseAll)
}

const { inspectSync: inspectLockSync, releaseSync: releaseLockSync, resolvePath: resolveLockPath } = native

native.setup(threadId, { lockError, systemError, later, watchExit })

/** @type {Pick<import('./index.js').Holder, 'pid' | 'host' | 'thread'> | undefined} */
let here

/** A name of an entry in the addon's table: losing it to the garbage collector releases nothing. */
class Lock {
  #id
  #path
  #createdAt
  #takenOver

  /** @param {import('./binding.js').JsLock} acquired */
  constructor({ id, path, createdAt, takenOver }) {
    this.#id = id
    this.#path = path
    this.#createdAt = createdAt
    this.#takenOver = takenOver
  }

  get path() {
    return this.#path
  }

  get holder() {
    here ??= native.whoami()
    return { ...here, createdAt: this.#createdAt }
  }

  get takenOver() {
    return this.#takenOver
  }

  isHeld() {
    return native.isHeld(this.#id)
  }

  release() {
    return native.releaseHeld(this.#id)
  }

  releaseSync() {
    native.releaseHeldSync(this.#id)
  }
}

/**
 * @param {symbol | undefined} symbol Node.js 20.0 has no such symbols yet.
 * @param {() => unknown} value
 */
function addToLock(symbol, value) {
  if (symbol) Object.defineProperty(Lock.prototype, symbol, { value, configurable: true, writable: true })
}
addToLock(Symbol.dispose, Lock.prototype.releaseSync)
addToLock(Symbol.asyncDispose, Lock.prototype.release)

/** @param {string | AcquireOptions} [target] */
const acquireLockSync = (target) => new Lock(native.acquireSync(target))

/**
 * @param {string | AcquireOptions} [target]
 * @returns {Promise<Lock>}
 */
async function acquireLock(target) {
  const signal = typeof target === 'object' ? target?.signal : undefined
  // Anything else but a signal is the addon's to refuse.
  if (typeof signal?.addEventListener !== 'function') return new Lock(await native.acquire(target))
  const cancel = new native.Cancel()
  const acquiring = native.acquire(target, cancel).then((acquired) => new Lock(acquired))
  /** @type {() => void} */
  let stopListening = () => {}
  /** @type {Promise<never>} */
  const aborted = new Promise((_, reject) => {
    const abort = () => {
      cancel.cancel()
      // A lock that is won in the same moment belongs to nobody.
      acquiring.then((lock) => lock.release()).catch(() => {})
      reject(signal.reason)
    }
    signal.addEventListener('abort', abort, { once: true })
    stopListening = () => signal.removeEventListener('abort', abort)
  })
  return Promise.race([acquiring, aborted]).finally(stopListening)
}

/**
 * @template T
 * @param {(lock: Lock) => T | Promise<T>} fn
 * @param {string | AcquireOptions} [options]
 * @returns {Promise<T>}
 */
async function withLock(fn, options) {
  if (typeof fn !== 'function') {
    const message = `The "fn" argument must be of type function. Received type ${typeof fn}`
    throw Object.assign(new TypeError(message), { code: 'ERR_INVALID_ARG_TYPE' })
  }
  const lock = await acquireLock(options)
  let result
  try {
    result = await fn(lock)
  } catch (error) {
    // The caller is told of the first failure; a second one must not be silent.
    await lock.release().catch(emitWarning)
    throw error
  }
  await lock.release()
  return result
}

/** @type {typeof import('./index.js').releaseLock} */
const releaseLock = async (target) => native.release(target)

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
