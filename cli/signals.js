'use strict'

const { constants } = require('node:os')
const { setImmediate } = require('../lib/clock.js')

/** @type {NodeJS.Signals[]} */
const PASSED_ON = [
  'SIGINT',
  'SIGTERM',
  'SIGHUP',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGWINCH',
  'SIGTSTP',
  'SIGCONT',
]

/** Dying of one of these would write a core file of this process too. */
const CORE = new Set([
  'SIGQUIT',
  'SIGILL',
  'SIGTRAP',
  'SIGABRT',
  'SIGBUS',
  'SIGFPE',
  'SIGSEGV',
  'SIGXCPU',
  'SIGXFSZ',
  'SIGSYS',
])

/** Takes the signals that would end or stop this process, until somebody wants them. */
class Signals {
  /** @type {(signal: NodeJS.Signals) => void} */
  #listener = (signal) => this.#early.push(signal)
  /** @type {NodeJS.Signals[]} */
  #early = []
  #isStopping = false
  /** @param {NodeJS.Signals} signal */
  #hear = (signal) => {
    if (signal === 'SIGTSTP') return this.#stopSoon()
    if (signal === 'SIGCONT') this.#isStopping = false
    this.#listener(signal)
  }

  constructor() {
    for (const signal of PASSED_ON) process.on(signal, this.#hear)
  }

  /** @param {(signal: NodeJS.Signals) => void} listener also hears what came before it */
  listen(listener) {
    this.#listener = listener
    for (const signal of this.#early.splice(0)) listener(signal)
  }

  /** Stops this process as Ctrl-Z would, unless it is continued before it gets to that, as by a quick `fg`. */
  #stopSoon() {
    this.#isStopping = true
    setImmediate(() => {
      if (!this.#isStopping) return
      this.#isStopping = false
      this.#listener('SIGTSTP')
      process.removeListener('SIGTSTP', this.#hear)
      process.kill(process.pid, 'SIGTSTP')
      process.on('SIGTSTP', this.#hear)
    })
  }

  end() {
    for (const signal of PASSED_ON) process.removeListener(signal, this.#hear)
  }
}

/**
 * Ends this process as its command ended: a shell stops its script only if Ctrl-C was the death of it.
 * @param {NodeJS.Signals} signal
 */
function dieOf(signal) {
  process.exitCode = 128 + constants.signals[signal]
  if (CORE.has(signal)) return
  if (signal === 'SIGPIPE') stopIgnoring(signal)
  process.kill(process.pid, signal)
}

/**
 * Node.js ignores it from its start; a listener that goes leaves the system's default behind.
 * @param {NodeJS.Signals} signal
 */
function stopIgnoring(signal) {
  const listener = () => {}
  process.on(signal, listener)
  process.removeListener(signal, listener)
}

module.exports = { Signals, dieOf }
