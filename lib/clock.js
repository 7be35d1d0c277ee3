'use strict'

// Captured when the package loads. Fake timers replace the globals later, and Jest's jsdom has no setImmediate.

const { performance } = require('node:perf_hooks')
const { clearTimeout, setImmediate, setTimeout } = require('node:timers')

const { now } = Date
/** @type {() => number} milliseconds that no change of the system's time moves */
const monotonic = performance.now.bind(performance)

module.exports = { clearTimeout, monotonic, now, setImmediate, setTimeout }
