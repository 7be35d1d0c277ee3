'use strict'

const exitCodes = require('./exit-codes.js')
const { withNamed } = require('./named.js')
const { describe, print, say } = require('./say.js')

/**
 * @typedef {import('../index.js').LockError} LockError
 * @typedef {import('./options.js').Break} Break
 */

/** @param {Break} options */
async function breakIt({ force, ...names }) {
  try {
    const [path, isRemoved] = await withNamed(names, async (lock) => [
      await lock.path(),
      await lock.break(force),
    ])
    print(isRemoved ? `${path}: removed` : `${path}: there is no lock`)
  } catch (error) {
    const { code, message, holder, reason } = /** @type {LockError} */ (error)
    if (code !== 'E_LOCK_CONTENTION') throw error
    say(message)
    say(`${reason ?? (holder ? describe(holder) : 'somebody holds it')}; --force removes it all the same`)
    process.exitCode = exitCodes.contention
  }
}

module.exports = { breakIt }
