'use strict'

const { inspectLock } = require('../index.js')
const exitCodes = require('./exit-codes.js')

const codes = { free: exitCodes.ok, held: exitCodes.held, stale: exitCodes.stale }

/** @param {import('./options.js').Status} options */
async function status({ file, json }) {
  const found = await inspectLock({ file })
  process.exitCode = codes[found.state]
  console.log(json ? JSON.stringify(found) : `${found.path}: ${found.state}: ${found.reason}`)
}

module.exports = { status }
