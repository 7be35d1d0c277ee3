'use strict'

const held = require('./held.js')
const native = require('./native.js')

/** @type {Pick<import('../index.js').Holder, 'pid' | 'host' | 'thread'> | undefined} */
let here

/** A name of an entry in the addon's table: losing it to the garbage collector releases nothing. */
class Lock {
  #id
  #path
  #createdAt
  #takenOver

  /** @param {import('../binding.js').JsLock} acquired */
  constructor({ id, path, createdAt, takenOver }) {
    this.#id = id
    this.#path = path
    this.#createdAt = createdAt
    this.#takenOver = takenOver
    held.add(id, this)
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

  async release() {
    try {
      if (await native.releaseHeld(this.#id)) held.remove(this.#id)
    } catch (error) {
      held.remove(this.#id, error)
      throw error
    }
  }

  /**
   * Ends a lock that the program was never told of.
   * @param {import('../index.js').Lock} lock
   */
  static async giveBack(lock) {
    const id = /** @type {Lock} */ (/** @type {unknown} */ (lock)).#id
    try {
      await native.giveBack(id)
    } finally {
      held.remove(id)
    }
  }

  releaseSync() {
    try {
      if (native.releaseHeldSync(this.#id)) held.remove(this.#id)
    } catch (error) {
      held.remove(this.#id, error)
      throw error
    }
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

/** @param {unknown} error */
function heldAt(error) {
  const path = /** @type {{ path?: unknown } | undefined} */ (error)?.path
  return typeof path === 'string' ? held.idOf(path) : undefined
}

/** @type {typeof import('../index.js').releaseLock} */
async function releaseLock(target) {
  try {
    held.remove((await native.release(target)) ?? undefined)
  } catch (error) {
    held.remove(heldAt(error), error)
    throw error
  }
}

/** @type {typeof import('../index.js').releaseLockSync} */
function releaseLockSync(target) {
  try {
    held.remove(native.releaseSync(target) ?? undefined)
  } catch (error) {
    held.remove(heldAt(error), error)
    throw error
  }
}

module.exports = { Lock, releaseLock, releaseLockSync }
