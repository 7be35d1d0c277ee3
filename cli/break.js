'use strict'

const { resolve } = require('node:path')
const { breakLock, resolveLockPath } = require('../index.js')
const exitCodes = require('./exit-codes.js')
const { describe, say } = require('./say.js')

/**
 * @typedef {import('../index.js').LockError} LockError
 * @typedef {import('./options.js').Break} Break
 */

/** @param {Break} options */
async function breakIt({ file, force }) {
  const path = file === undefined ? resolveLockPath() : resolve(file)
  try {
    const isRemoved = await breakLock({ file, force })
    console.log(isRemoved ? `${path}: removed` : `${path}: there is no lock`)
  } catch (error) {
    const { code, message, holder, reason } = /** @type {LockError} */ (error)
    if (code !== 'E_LOCK_CONTENTION') throw error
    say(message)
    say(`${reason ?? (holder ? describe(holder) : 'somebody holds it')}; --force removes it all the same`)
    process.exitCode = exitCodes.contention
  }
}

module.exports = { breakIt }
