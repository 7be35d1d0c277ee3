'use strict'

const channels = require('./channels.js')
const { clearTimeout, monotonic, setTimeout } = require('./clock.js')
const { errorOf, isContention } = require('./errors.js')
const held = require('./held.js')
const { Lock, withoutNulls } = require('./lock.js')
const { isPromise, later, native, settled, resultOf } = require('./native.js')
const { acquireOptions, explain } = require('./options.js')

/**
 * @typedef {import('./options.js').Options} Options
 * @typedef {import('../index.js').Lock} Held
 * @typedef {import('../index.js').LockError} LockError
 * @typedef {import('../binding.js').JsLock} JsLock
 */

/** How often those who wait are told, in milliseconds. */
const TELL = 1000

/** How long a synchronous wait keeps the engine from ending its thread, in milliseconds. */
const SLICE = 20

/** A timer of Node.js for longer than this goes off at once. */
const LONGEST_TIMER = 2 ** 31 - 1

/** What a first attempt has at least: it is to be refused by the lock and not by a busy machine. In milliseconds. */
const FIRST_ANSWER = 200

const noTime = () => 0

/** One call: when it began, whom it found, and whether it was aborted. */
class Call {
  isAborted = false
  /** Who calls first is served first, whoever is refused first. */
  id
  #started
  #legacy
  #timeout
  #onWait
  /** @type {LockError | undefined} */
  #first

  /** @param {Options} options */
  constructor({ legacy, timeout, onWait }) {
    this.id = timeout ? native.nextWait() : 0
    this.#legacy = legacy
    this.#timeout = timeout
    this.#onWait = onWait
    this.#started = monotonic()
  }

  /** What to wait for: the current directory may be another by now. @type {[file: string, message: string, legacy: boolean]} */
  get target() {
    const { path, message } = /** @type {LockError} */ (this.#first)
    return [path, message, this.#legacy]
  }

  /** How long it has been waiting for a holder, in milliseconds. */
  waited = () => (this.#first ? Math.round(monotonic() - this.#started) : 0)

  /**
   * What is left of the time after a refusal; another error is thrown, and so is the refusal if nothing is left.
   * @param {unknown} error
   */
  left(error) {
    if (!isContention(error)) throw error
    channels.contended(error)
    this.#first = error
    const { remaining } = this
    if (remaining > 0) return remaining
    throw error
  }

  /** How long it may still wait, in milliseconds. */
  get remaining() {
    return this.isAborted ? 0 : this.#timeout - (monotonic() - this.#started)
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
    if (!now || !this.#first || tellsNothing(now)) return this.#first
    return { path: this.#first.path, ...withoutNulls(now) }
  }

  /**
   * At the end of a wait its first refusal may be all that told of a holder.
   * @param {unknown} error
   */
  failure(error) {
    return isContention(error) && tellsNothing(error) ? this.#first : error
  }
}

/** @param {{ holder?: unknown, reason?: string | null | undefined }} refused */
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

/** @param {unknown[]} args */
function acquireLockSync(...args) {
  const options = acquireOptions('acquireLockSync', args)
  throwIfAborted(options.signal)
  const call = options.timeout ? new Call(options) : undefined
  let acquired
  try {
    const { cwd, file, message, legacy, timeout } = options
    acquired = resultOf(native.acquireSync(cwd, file, message, legacy, timeout, call?.id ?? 0))
    if (call) acquired ??= firstAnswer(options, call)
  } catch (error) {
    if (!call) {
      if (isContention(error)) channels.contended(error)
      throw explain(options, error)
    }
    const left = call.left(explain(options, error))
    const claimed = held.claim(call.target[0])
    if (!claimed) return waitSync(call, left, options.signal)
    acquired = claimed
  }
  held.begin()
  return entered(/** @type {JsLock} */ (acquired), call?.waited ?? noTime)
}

/**
 * Waits for the first attempt, which a disk holds up, until the deadline.
 * @param {Options} options
 * @param {Call} call
 */
function firstAnswer({ cwd, file, message }, call) {
  const end = monotonic() + Math.max(call.remaining, FIRST_ANSWER)
  for (let left = end - monotonic(); left > 0; left = end - monotonic()) {
    const acquired = resultOf(native.waitSlice(call.id, Math.min(SLICE, left)))
    if (acquired) return acquired
  }
  native.cancelWait(call.id)
  throw errorOf(native.unanswered(cwd, file, message))
}

/**
 * @param {AbortSignal | undefined} signal
 * @returns {boolean} whether there is a signal
 */
function throwIfAborted(signal) {
  if (signal?.aborted) throw signal.reason
  return signal !== undefined
}

/**
 * @param {Call} call
 * @param {number} left
 * @param {AbortSignal | undefined} signal
 */
function waitSync(call, left, signal) {
  held.begin()
  try {
    resultOf(native.waitSync(call.id, ...call.target, left))
    return entered(sitOut(call, signal), call.waited)
  } catch (error) {
    native.cancelWait(call.id)
    held.end()
    throw call.failure(error)
  }
}

/**
 * @param {Call} call
 * @param {AbortSignal | undefined} signal that a listener of the wait may abort: nobody else can while this thread waits
 */
function sitOut(call, signal) {
  for (let next = 0; ; ) {
    if (call.isToldTo && monotonic() >= next) {
      call.tell()
      next = monotonic() + TELL
    }
    throwIfAborted(signal)
    const acquired = resultOf(native.waitSlice(call.id, SLICE))
    if (acquired) return acquired
  }
}

/**
 * @param {unknown[]} args
 * @returns {Promise<Held>}
 */
async function acquireLock(...args) {
  const options = acquireOptions('acquireLock', args)
  const { signal } = options
  if (!throwIfAborted(signal)) return acquire(options, new Call(options))
  const call = new Call(options)
  // A call without a signal need not load it.
  const { abortable } = require('./abortable.js')
  return abortable(() => acquire(options, call), /** @type {AbortSignal} */ (signal), call, Lock.rollBack)
}

/**
 * @param {Options} options
 * @param {Call} call
 */
async function acquire(options, call) {
  held.begin()
  try {
    const acquired = attempt(options, call).catch((error) => wait(call, call.left(error)))
    return entered(await acquired, call.waited)
  } catch (error) {
    held.end()
    throw explain(options, error)
  }
}

/**
 * @param {Options} options
 * @param {Call} call
 * @returns {Promise<JsLock>}
 */
async function attempt({ cwd, file, message, legacy, timeout }, call) {
  const outcome = native.acquire(cwd, file, message, legacy, timeout)
  if (isPromise(outcome)) {
    const lock = settled(outcome)
    if (!timeout || timeout > LONGEST_TIMER) return lock
    return inTime(lock, call.remaining, () => errorOf(native.unanswered(cwd, file, message)))
  }
  if (Array.isArray(outcome)) return settled(outcome)
  held.keep(outcome)
  await later(undefined)
  // The current directory may be another by now.
  const again = { cwd: undefined, file: outcome.path, message, legacy, timeout }
  return held.claim(outcome.path, outcome) ?? attempt(/** @type {Options} */ (again), call)
}

/**
 * A disk may hold up a first attempt for longer than the call has time. What it acquires after that is rolled back.
 * @param {Promise<JsLock>} lock
 * @param {number} milliseconds
 * @param {() => Error} late
 * @returns {Promise<JsLock>}
 */
function inTime(lock, milliseconds, late) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => {
        reject(late())
        lock.then(({ id }) => settled(native.giveBack(id))).catch(() => {})
      },
      Math.max(milliseconds, FIRST_ANSWER),
    )
    lock.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

/**
 * @param {Call} call
 * @param {number} left
 * @returns {Promise<JsLock>}
 */
async function wait(call, left) {
  const lock = settled(native.wait(call.id, ...call.target, left))
  try {
    return await (call.isToldTo ? told(call, lock) : lock)
  } catch (error) {
    // Nothing is left to cancel, unless it was the listener that failed.
    native.cancelWait(call.id)
    await require('./abortable.js').unwanted(lock.then(({ id }) => settled(native.giveBack(id))))
    // A synchronous call of this thread has got what this one had won.
    if (isContention(error) && call.remaining > 0) return wait(call, call.remaining)
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
const withLock = (...args) => require('./with-lock.js').withLockOf(acquireLock)(...args)

module.exports = { acquireLock, acquireLockSync, withLock }
