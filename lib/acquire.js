'use strict'

const { emitWarning } = require('node:process')
const channels = require('./channels.js')
const { isContention } = require('./errors.js')
const held = require('./held.js')
const { onAbort } = require('./abort.js')
const { Lock } = require('./lock.js')
const native = require('./native.js')

/**
 * @typedef {import('../index.js').AcquireOptions} AcquireOptions
 * @typedef {import('../index.js').Lock} Held
 * @typedef {import('../index.js').LockError} LockError
 * @typedef {import('../binding.js').JsLock} JsLock
 */

/** How often those who wait are told, in milliseconds. */
const TELL = 1000

/** How long a synchronous wait keeps the engine from ending its thread, in milliseconds. */
const SLICE = 20

/**
 * @param {string | AcquireOptions | undefined} target
 * @returns {AcquireOptions}
 */
const optionsOf = (target) => (typeof target === 'object' && target !== null ? target : {})

const noTime = () => 0

/** One call: when it began, whom it found, and whether it was aborted. */
class Call {
  isAborted = false
  /** @type {number | undefined} */
  #id
  #started
  #options
  /** @type {LockError | undefined} */
  #first

  /** @param {AcquireOptions} options */
  constructor(options) {
    this.#options = options
    this.#started = performance.now()
  }

  /** How long it has been waiting for a holder, in milliseconds. */
  waited = () => (this.#first ? Math.round(performance.now() - this.#started) : 0)

  /**
   * What is left of the time after a refusal; another error is thrown, and so is the refusal if nothing is left.
   * @param {unknown} error
   */
  left(error) {
    if (!isContention(error)) throw error
    channels.contended(error)
    this.#first = error
    const left = (this.#options.timeout ?? 0) - (performance.now() - this.#started)
    if (left > 0 && !this.isAborted) return left
    throw error
  }

  /** @param {number} id */
  waits(id) {
    this.#id = id
  }

  abort() {
    this.isAborted = true
    if (this.#id !== undefined) native.cancelWait(this.#id)
  }

  /** Whether there is anybody to tell of the wait. */
  get isToldTo() {
    return this.#options.onWait !== undefined || channels.watchWaits()
  }

  tell() {
    const { path = '', holder, reason } = this.#now() ?? {}
    const status = {
      path,
      ...(holder && { holder }),
      ...(reason != null && { reason }),
      waited: this.waited(),
    }
    this.#options.onWait?.(status)
    if (channels.watchWaits()) channels.waiting(status)
  }

  #now() {
    const now = this.#id === undefined ? null : native.waitingFor(this.#id)
    return now?.holder && this.#first ? { path: this.#first.path, ...now } : this.#first
  }

  /**
   * At the end of a wait its first refusal may be all that told of a holder.
   * @param {unknown} error
   */
  failure(error) {
    return isContention(error) && !error.holder ? this.#first : error
  }
}

/**
 * @param {JsLock} acquired
 * @param {() => number} waited
 */
function entered(acquired, waited) {
  const lock = new Lock(acquired)
  channels.acquired(lock, waited)
  // The symbols were added to the class where the checker does not see them.
  return /** @type {Held} */ (/** @type {unknown} */ (lock))
}

/** @param {string | AcquireOptions} [target] */
function acquireLockSync(target) {
  const options = optionsOf(target)
  const call = options.timeout ? new Call(options) : undefined
  let acquired
  try {
    acquired = native.acquireSync(target)
  } catch (error) {
    if (!call) {
      if (isContention(error)) channels.contended(error)
      throw error
    }
    return waitSync(target, call, call.left(error))
  }
  held.begin()
  return entered(acquired, call?.waited ?? noTime)
}

/**
 * @param {string | AcquireOptions | undefined} target
 * @param {Call} call
 * @param {number} left
 */
function waitSync(target, call, left) {
  held.begin()
  const id = native.waitSync(target, left)
  try {
    call.waits(id)
    const acquired = sitOut(id, call)
    return entered(acquired, call.waited)
  } catch (error) {
    native.cancelWait(id)
    held.end()
    throw call.failure(error)
  }
}

/**
 * @param {number} id
 * @param {Call} call
 */
function sitOut(id, call) {
  for (let next = 0; ; ) {
    if (call.isToldTo && performance.now() >= next) {
      call.tell()
      next = performance.now() + TELL
    }
    const acquired = native.waitSlice(id, SLICE)
    if (acquired) return acquired
  }
}

/**
 * @param {string | AcquireOptions} [target]
 * @returns {Promise<Held>}
 */
async function acquireLock(target) {
  const options = optionsOf(target)
  const { signal } = options
  const call = new Call(options)
  // Anything else but a signal is the addon's to refuse.
  if (typeof signal?.addEventListener !== 'function') return acquire(target, call)
  const acquiring = acquire(target, call)
  /** @type {() => void} */
  let stopListening = () => {}
  /** @type {Promise<never>} */
  const aborted = new Promise((_, reject) => {
    stopListening = onAbort(signal, () => {
      call.abort()
      // A lock that is won in the same moment belongs to nobody.
      acquiring.then((lock) => lock.release()).catch(() => {})
      reject(signal.reason)
    })
  })
  return Promise.race([acquiring, aborted]).finally(stopListening)
}

/**
 * @param {string | AcquireOptions | undefined} target
 * @param {Call} call
 */
async function acquire(target, call) {
  held.begin()
  try {
    return entered(
      await native.acquire(target).catch((error) => wait(target, call, call.left(error))),
      call.waited,
    )
  } catch (error) {
    held.end()
    throw error
  }
}

/**
 * @param {string | AcquireOptions | undefined} target
 * @param {Call} call
 * @param {number} left
 * @returns {Promise<JsLock>}
 */
async function wait(target, call, left) {
  const { id, lock } = native.wait(target, left)
  call.waits(id)
  try {
    return await (call.isToldTo ? told(call, lock) : lock)
  } catch (error) {
    // Nothing is left to cancel, unless it was the listener that failed.
    native.cancelWait(id)
    lock.then(({ id }) => native.releaseHeld(id)).catch(() => {})
    throw call.failure(error)
  }
}

/**
 * Waits, and tells of it again and again. A listener that fails ends the wait.
 * @param {Call} call
 * @param {Promise<JsLock>} lock
 */
async function told(call, lock) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer
  /** @type {Promise<never>} */
  const failed = new Promise((_, reject) => {
    const tell = () => {
      try {
        call.tell()
        timer = setTimeout(tell, TELL)
      } catch (error) {
        reject(error)
      }
    }
    tell()
  })
  try {
    return await Promise.race([lock, failed])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * @template T
 * @param {(lock: Held) => T | Promise<T>} fn
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

module.exports = { acquireLock, acquireLockSync, withLock }
