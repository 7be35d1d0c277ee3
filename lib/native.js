'use strict'

const { readFileSync } = require('node:fs')
const { isPromise } = require('node:util').types
const { setImmediate } = require('./clock.js')
const { errorOf } = require('./errors.js')
const { binaryHere, isCutOff } = require('./whole.js')
const { version } = require('../package.json')

function load() {
  const path = binaryHere()
  // The system's loader ends the process (SIGBUS) over a library that was cut off.
  if (path !== undefined && isCutOff(path)) throw require('./missing.js').unloadable(path)
  const native = loadAt(path)
  if (native !== undefined) return native
  try {
    return require('../binding.js')
  } catch (error) {
    throw require('./missing.js').notLoaded(error)
  }
}

/**
 * napi's loader takes longer than all else here, and is for what a look does not find, or what does not load.
 * @param {string | undefined} path
 * @returns {typeof import('../binding.js') | undefined}
 */
function loadAt(path) {
  const { NAPI_RS_NATIVE_LIBRARY_PATH, NAPI_RS_FORCE_WASI } = process.env
  if (NAPI_RS_NATIVE_LIBRARY_PATH || NAPI_RS_FORCE_WASI || !path?.includes('-gnu') || !isGlibc())
    return undefined
  try {
    return require(path)
  } catch {
    return undefined
  }
}

/** As that loader tells it first. */
function isGlibc() {
  try {
    return !readFileSync('/usr/bin/ldd', 'latin1').includes('musl')
  } catch {
    return false
  }
}

/** Loading that module would be a quarter of what loading this package costs. */
const threadId = () => require('node:worker_threads').threadId

const native = load()
if (native.VERSION !== version) throw require('./missing.js').ofVersion(native.VERSION)
native.setup(threadId)

/**
 * What the addon returned for a call: a value, or an array that an error is made of, in this realm.
 * @template T
 * @param {T} outcome
 * @returns {Exclude<T, unknown[]>}
 */
function resultOf(outcome) {
  if (Array.isArray(outcome)) throw errorOf(outcome)
  return /** @type {Exclude<T, unknown[]>} */ (outcome)
}

/**
 * What the addon returned for an asynchronous call: a promise, or what is there at once. That settles in a later turn
 * of the event loop too: a program that tries again and again must not keep its own timers from running.
 * @template T
 * @param {T | Promise<T>} outcome
 * @returns {Promise<Exclude<T, unknown[]>>}
 */
async function settled(outcome) {
  return resultOf(isPromise(outcome) ? await outcome : await later(outcome))
}

/**
 * @template T
 * @param {T} value
 * @returns {Promise<T>}
 */
const later = (value) => new Promise((resolve) => setImmediate(resolve, value))

module.exports = { isPromise, later, native, settled, resultOf }
