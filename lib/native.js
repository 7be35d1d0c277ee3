'use strict'

const { lockError, systemError } = require('./errors.js')
const { cutOff } = require('./whole.js')
const { version } = require('../package.json')

function load() {
  // The system's loader ends the process (SIGBUS) over a library that was cut off.
  const broken = cutOff()
  if (broken !== undefined) throw require('./missing.js').unloadable(broken)
  try {
    return require('../binding.js')
  } catch (error) {
    throw require('./missing.js').notLoaded(error)
  }
}

/**
 * A promise that settles in a later turn of the event loop.
 * @param {boolean} ok
 * @param {unknown} value
 */
function later(ok, value) {
  return new Promise((resolve, reject) => {
    setImmediate(ok ? resolve : reject, value)
  })
}

/** Loading that module would be a quarter of what loading this package costs. */
const threadId = () => require('node:worker_threads').threadId

const native = load()
if (native.VERSION !== version) throw require('./missing.js').ofVersion(native.VERSION)
native.setup({ lockError, systemError, later, threadId })

module.exports = native
