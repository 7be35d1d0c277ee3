'use strict'

const { readFileSync } = require('node:fs')
const { constants } = require('node:os')

/** @type {NodeJS.Signals[]} */
const PASSED_ON = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH']

/** What a terminal sends to all processes of its foreground group. */
const FROM_TERMINAL = new Set(['SIGINT', 'SIGQUIT', 'SIGWINCH'])

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

/** Takes the signals that would end this process, until somebody wants them. */
class Signals {
  /** @type {(signal: NodeJS.Signals) => void} */
  #listener = (signal) => this.#early.push(signal)
  /** @type {NodeJS.Signals[]} */
  #early = []
  /** @param {NodeJS.Signals} signal */
  #hear = (signal) => this.#listener(signal)

  constructor() {
    for (const signal of PASSED_ON) process.on(signal, this.#hear)
  }

  /** @param {(signal: NodeJS.Signals) => void} listener also hears what came before it */
  listen(listener) {
    this.#listener = listener
    for (const signal of this.#early.splice(0)) listener(signal)
  }

  end() {
    for (const signal of PASSED_ON) process.removeListener(signal, this.#hear)
  }
}

/**
 * Whether the terminal has sent the signal to our command as well.
 * @param {NodeJS.Signals} signal
 */
function reachesAll(signal) {
  return FROM_TERMINAL.has(signal) && isInForeground()
}

function isInForeground() {
  if (process.platform !== 'linux') return process.stdin.isTTY === true
  // proc(5): after the name in parentheses state, ppid, pgrp, session, tty_nr, tpgid.
  const stat = readFileSync('/proc/self/stat', 'latin1')
  const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return group === foreground
}

/**
 * Ends this process as its command ended: a shell stops its script only if Ctrl-C was the death of it.
 * @param {NodeJS.Signals} signal
 */
function dieOf(signal) {
  process.exitCode = 128 + constants.signals[signal]
  if (!CORE.has(signal)) process.kill(process.pid, signal)
}

module.exports = { Signals, reachesAll, dieOf }
