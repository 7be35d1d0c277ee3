import { emitWarning } from 'node:process'
import { argumentError } from './errors.js'

export function createWithLock<O, L extends { release(): Promise<void> }>(
  acquireLock: (options?: O) => Promise<L>,
) {
  return async function withLock<T>(fn: (lock: L) => T | Promise<T>, ...options: [O?]): Promise<T> {
    if (typeof fn !== 'function') {
      const message = `The "fn" argument must be of type function. Received type ${typeof fn}`
      throw argumentError(TypeError, 'ERR_INVALID_ARG_TYPE', message)
    }
    const lock = await acquireLock(...options)
    let result: T
    try {
      result = await fn(lock)
    } catch (error) {
      // The caller gets the first failure; the second one must not be lost.
      await lock.release().catch(emitWarning)
      throw error
    }
    await lock.release()
    return result
  }
}
