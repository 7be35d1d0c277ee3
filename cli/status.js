'use strict'

const exitCodes = require('./exit-codes.js')
const { withNamed } = require('./named.js')
const { print } = require('./say.js')

const codes = { free: exitCodes.ok, held: exitCodes.held, stale: exitCodes.stale }

/** @param {import('./options.js').Status} options */
async function status({ json, ...names }) {
  const found = await withNamed(names, (lock) => lock.inspect())
  process.exitCode = codes[found.state]
  if (json) console.log(JSON.stringify(found, plain))
  else print(`${found.path}: ${found.state}: ${found.reason}`)
}

/**
 * JSON has no number for a token that every reader would keep whole.
 * @param {string} _
 * @param {unknown} value
 */
const plain = (_, value) => (typeof value === 'bigint' ? String(value) : value)

module.exports = { status }
