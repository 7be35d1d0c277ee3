'use strict'

const channels = require('./channels.js')
const { isContention } = require('./errors.js')
const held = require('./held.js')
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
  /** Who calls first is served first, whoever is refused first. */
  id
  #started
  #timeout
  #onWait
  /** @type {LockError | undefined} */
  #first

  /** @param {AcquireOptions} options */
  constructor({ timeout = 0, onWait }) {
    this.id = timeout ? native.nextWait() : 0
    this.#timeout = timeout
    this.#onWait = onWait
    this.#started = performance.now()
  }

  /** What to wait for: the current directory may be another by now, and so may the caller's options. */
  get target() {
    const { path, message } = /** @type {LockError} */ (this.#first)
    return { file: path, message }
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
    const left = this.#timeout - (performance.now() - this.#started)
    if (left > 0 && !this.isAborted) return left
    throw error
  }

  abort() {
    this.isAborted = true
    native.cancelWait(this.id)
  }

  /** Whether there is anybody to tell of the wait. */
  get isToldTo() {
    return this.#onWait !== undefined || channels.watchWaits()
  }

  tell() {
    const { path = '', holder, reason } = this.#now() ?? {}
    const status = {
      path,
      ...(holder && { holder }),
      ...(reason != null && { reason }),
      waited: this.waited(),
    }
    const onWait = this.#onWait
    onWait?.(status)
    if (channels.watchWaits()) channels.waiting(status)
  }

  #now() {
    const now = native.waitingFor(this.id)
    return now && this.#first && !tellsNothing(now) ? { path: this.#first.path, ...now } : this.#first
  }

  /**
   * At the end of a wait its first refusal may be all that told of a holder.
   * @param {unknown} error
   */
  failure(error) {
    return isContention(error) && tellsNothing(error) ? this.#first : error
  }
}

/** @param {{ holder?: unknown, reason?: string | undefined }} refused */
const tellsNothing = ({ holder, reason }) => holder == null && reason == null

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
    return waitSync(call, call.left(error))
  }
  held.begin()
  return entered(acquired, call?.waited ?? noTime)
}

/**
 * @param {Call} call
 * @param {number} left
 */
function waitSync(call, left) {
  held.begin()
  try {
    native.waitSync(call.id, call.target, left)
    return entered(sitOut(call), call.waited)
  } catch (error) {
    native.cancelWait(call.id)
    held.end()
    throw call.failure(error)
  }
}

/** @param {Call} call */
function sitOut(call) {
  for (let next = 0; ; ) {
    if (call.isToldTo && performance.now() >= next) {
      call.tell()
      next = performance.now() + TELL
    }
    const acquired = native.waitSlice(call.id, SLICE)
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
  const acquiring = acquire(target, call)
  // Anything else but a signal is the addon's to refuse, and so is one that was aborted before.
  if (typeof signal?.addEventListener !== 'function' || signal.aborted) return acquiring
  // Who passes no signal need not load it.
  return require('./abortable.js').abortable(acquiring, signal, call, Lock.giveBack)
}

/**
 * @param {string | AcquireOptions | undefined} target
 * @param {Call} call
 */
async function acquire(target, call) {
  held.begin()
  try {
    return entered(await native.acquire(target).catch((error) => wait(call, call.left(error))), call.waited)
  } catch (error) {
    held.end()
    throw error
  }
}

/**
 * @param {Call} call
 * @param {number} left
 * @returns {Promise<JsLock>}
 */
async function wait(call, left) {
  const lock = native.wait(call.id, call.target, left)
  try {
    return await (call.isToldTo ? told(call, lock) : lock)
  } catch (error) {
    // Nothing is left to cancel, unless it was the listener that failed.
    native.cancelWait(call.id)
    await require('./abortable.js').unwanted(lock.then(({ id }) => native.giveBack(id)))
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
        // A timer may be a millisecond early.
        timer = setTimeout(tell, TELL + 1)
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

/** @type {typeof import('../index.js').withLock} */
const withLock = (fn, options) => require('./with-lock.js').withLockOf(acquireLock)(fn, options)

module.exports = { acquireLock, acquireLockSync, withLock }
