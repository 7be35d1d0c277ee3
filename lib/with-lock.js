'use strict'

const { emitWarning } = require('node:process')

/**
 * @template O
 * @template {{ release(): Promise<void> }} L
 * @param {(...options: O[]) => Promise<L>} acquireLock
 */
function withLockOf(acquireLock) {
  /**
   * @template T
   * @param {(lock: L) => T | Promise<T>} fn
   * @param {O[]} options
   * @returns {Promise<T>}
   */
  return async function withLock(fn, ...options) {
    if (typeof fn !== 'function') {
      const message = `The "fn" argument must be of type function. Received type ${typeof fn}`
      throw Object.assign(new TypeError(message), { code: 'ERR_INVALID_ARG_TYPE' })
    }
    const lock = await acquireLock(...options)
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
}

module.exports = { withLockOf }
