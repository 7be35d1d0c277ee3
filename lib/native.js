'use strict'

const { threadId } = require('node:worker_threads')
const native = require('../binding.js')
const { lockError, systemError } = require('./errors.js')

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

native.setup(threadId, { lockError, systemError, later })

module.exports = native
