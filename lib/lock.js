'use strict'

const { inspect } = require('node:util')
const held = require('./held.js')
const { native, settled, resultOf } = require('./native.js')
const { acquireOptions } = require('./options.js')

/** @type {import('../index.js').Holder | undefined} */
let here

/**
 * A name of an entry in the addon's table: losing it to the garbage collector releases nothing.
 *
 * Its methods are getters of functions that are bound to it: programs pass `lock.release` on.
 */
class Lock {
  #id
  #path
  #createdAt
  #takenOver
  /** @type {(() => Promise<void>) | undefined} */
  #release
  /** The release that is under way. @type {Promise<void> | undefined} */
  #released
  /** @type {(() => void) | undefined} */
  #releaseSync
  /** @type {(() => boolean) | undefined} */
  #isHeld

  /** @param {import('../binding.js').JsLock} acquired */
  constructor({ id, path, createdAt, takenOver }) {
    this.#id = id
    this.#path = path
    this.#createdAt = createdAt
    this.#takenOver = takenOver ? withoutNulls(takenOver) : undefined
    held.add(id, this)
  }

  get path() {
    return this.#path
  }

  get holder() {
    here ??= withoutNulls(native.whoami())
    return { .../** @type {import('../index.js').Holder} */ (here), createdAt: this.#createdAt }
  }

  get takenOver() {
    return this.#takenOver
  }

  get isHeld() {
    this.#isHeld ??= () => native.isHeld(this.#id)
    return this.#isHeld
  }

  get release() {
    this.#release ??= () => {
      this.#released ??= this.#end()
      return this.#released
    }
    return this.#release
  }

  async #end() {
    try {
      await settled(native.releaseHeld(this.#id))
      held.remove(this.#id)
    } catch (error) {
      held.remove(this.#id, error)
      throw error
    } finally {
      this.#released = undefined
    }
  }

  get releaseSync() {
    this.#releaseSync ??= () => {
      try {
        resultOf(native.releaseHeldSync(this.#id))
        held.remove(this.#id)
      } catch (error) {
        held.remove(this.#id, error)
        throw error
      }
    }
    return this.#releaseSync
  }

  /**
   * Rolls back a lock that the program was never given.
   * @param {import('../index.js').Lock} lock
   */
  static async rollBack(lock) {
    const id = /** @type {Lock} */ (/** @type {unknown} */ (lock)).#id
    try {
      await settled(native.giveBack(id))
    } finally {
      held.remove(id)
    }
  }

  /**
   * The descriptor by which a child can inherit the kernel lock, if the system has any.
   * @param {object} lock
   */
  static descriptorOf(lock) {
    return native.descriptorOf(/** @type {Lock} */ (lock).#id) ?? undefined
  }

  toJSON() {
    const { path, holder, takenOver } = this
    return { path, holder, ...(takenOver && { takenOver }) }
  }

  /**
   * @param {number} _depth
   * @param {import('node:util').InspectOptionsStylized} options
   */
  [inspect.custom](_depth, options) {
    return `Lock ${inspect(this.toJSON(), options)}`
  }

  [Symbol.dispose]() {
    this.releaseSync()
  }

  [Symbol.asyncDispose]() {
    return this.release()
  }
}

/**
 * The addon says `null`, and the types of this package have optional properties.
 * @template {{ holder?: any, host?: any, thread?: any }} T
 * @param {T} value
 * @returns {any}
 */
function withoutNulls(value) {
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, each]) => {
      if (each === null) return []
      return [[key, typeof each === 'object' ? withoutNulls(each) : each]]
    }),
  )
}

/** @param {unknown} error */
function heldAt(error) {
  const path = /** @type {{ path?: unknown } | undefined} */ (error)?.path
  return typeof path === 'string' ? held.idOf(path) : undefined
}

/**
 * @param {unknown[]} args a lock is released itself, whatever its path names by now
 * @type {any}
 */
const heldIn = (args) => (held.pathOf(args[0]) === undefined || args.length > 1 ? undefined : args[0])

/** @param {unknown[]} args */
async function releaseLock(...args) {
  const lock = heldIn(args)
  if (lock) return lock.release()
  const { cwd, file } = acquireOptions('releaseLock', args)
  const known = held.at(resultOf(native.resolvePath(cwd, file)))
  if (known) return known.release()
  try {
    held.remove((await settled(native.release(cwd, file))) ?? undefined)
  } catch (error) {
    held.remove(heldAt(error), error)
    throw error
  }
}

/** @param {unknown[]} args */
function releaseLockSync(...args) {
  const lock = heldIn(args)
  if (lock) return lock.releaseSync()
  const { cwd, file } = acquireOptions('releaseLockSync', args)
  try {
    held.remove(resultOf(native.releaseSync(cwd, file)) ?? undefined)
  } catch (error) {
    held.remove(heldAt(error), error)
    throw error
  }
}

module.exports = { Lock, releaseLock, releaseLockSync, withoutNulls }
