'use strict'

const { spawn } = require('node:child_process')
const { existsSync } = require('node:fs')
const { getSystemErrorMap } = require('node:util')
const { clearTimeout, setTimeout } = require('../lib/clock.js')
const exitCodes = require('./exit-codes.js')
const { say } = require('./say.js')
const { hasTerminal, hasTold } = require('./terminal.js')

/**
 * @typedef {import('node:child_process').ChildProcess} ChildProcess
 * @typedef {number | NodeJS.Signals} End an exit code, or the signal to die of
 */

const LONGEST_TIMER = 2 ** 31 - 1

/** How often a group that is to end is looked for, in milliseconds. */
const PERIOD = 20

/**
 * Runs a command to its end.
 * @param {string} command
 * @param {string[]} args
 * @param {object} about
 * @param {InstanceType<typeof import('./signals.js').Signals>} about.signals what it is told of
 * @param {AbortSignal | undefined} about.loss of the lock, after which it should not go on
 * @param {number} about.killAfter how long it may then take to end, in milliseconds
 * @param {number | undefined} about.descriptor that it inherits
 * @returns {Promise<End>}
 */
function runCommand(command, args, { signals, loss, killAfter, descriptor }) {
  // Where no terminal has to reach it, it gets a process group of its own, so that what it starts ends with it.
  const detached = loss !== undefined && !hasTerminal()
  return new Promise((resolve) => {
    /** @type {ChildProcess} */
    let child
    /** @type {NodeJS.Timeout | undefined} */
    let killer
    const send = (/** @type {NodeJS.Signals} */ signal) => {
      if (detached) signalGroup(child.pid, signal)
      else child.kill(signal)
    }
    const lost = () => {
      sayLost(loss?.reason)
      send('SIGTERM')
      if (killAfter === Number.POSITIVE_INFINITY) return
      killer = setTimeout(
        () => {
          say('reconcile-lock: it has not ended in time: it is ended by SIGKILL')
          send('SIGKILL')
        },
        Math.min(killAfter, LONGEST_TIMER),
      )
    }
    const ended = async (/** @type {End} */ end) => {
      loss?.removeEventListener('abort', lost)
      while (killer && detached && signalGroup(child.pid, 0)) await delay(PERIOD)
      clearTimeout(killer)
      resolve(end)
    }
    const refused = (/** @type {unknown} */ error) =>
      ended(notRun(command, /** @type {NodeJS.ErrnoException} */ (error)))
    try {
      child = spawn(command, args, { stdio: streams(descriptor), detached })
    } catch (error) {
      // Some refusals of the system are thrown, others arrive as an event.
      void refused(error)
      return
    }
    child.on('error', (error) => {
      if (child.pid === undefined) return void refused(error)
      // The command, of another user now, lives on, and so does the lock.
      say(`reconcile-lock: a signal cannot be passed on to process ${child.pid}: ${textOf(error)}`)
    })
    child.once('exit', (code, signal) => void ended(signal ?? code ?? exitCodes.ok))
    signals.listen((signal) => {
      if (!hasTold(signal, child.pid)) send(signal)
    })
    loss?.addEventListener('abort', lost)
  })
}

/**
 * @param {number | undefined} pid the group's, which is that of its first process
 * @param {NodeJS.Signals | 0} signal
 * @returns {boolean} whether a process of that group is there and was signalled
 */
function signalGroup(pid, signal) {
  if (pid === undefined) return false
  try {
    return process.kill(-pid, signal)
  } catch (error) {
    const { code } = /** @type {NodeJS.ErrnoException} */ (error)
    if (code !== 'ESRCH' && signal !== 0)
      say(
        `reconcile-lock: a signal cannot be passed on to process ${pid}: ${textOf(/** @type {Error} */ (error))}`,
      )
    return false
  }
}

/** @param {number} milliseconds */
const delay = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

/**
 * Those of this process. A lock's file keeps its number here: scripts redirect lower ones, such as 3, and would close it.
 * @param {number | undefined} descriptor
 * @returns {import('node:child_process').StdioOptions}
 */
function streams(descriptor) {
  if (descriptor === undefined) return 'inherit'
  /** @type {('inherit' | 'ignore' | number)[]} */
  const all = Array.from({ length: descriptor }, (_, number) => (number < 3 ? 'inherit' : 'ignore'))
  return [...all, descriptor]
}

/** @param {Error} reason */
function sayLost({ message }) {
  say(`reconcile-lock: ${message}`)
  say('reconcile-lock: another run may be at work by now: the command is asked to end, by SIGTERM')
}

/**
 * Says why a command cannot be run.
 * @param {string} command
 * @param {NodeJS.ErrnoException} error
 */
function notRun(command, error) {
  const isMissing = error.code === 'ENOENT'
  const hasFile = isMissing && command.includes('/') && existsSync(command)
  const missing = hasFile ? 'the interpreter in its first line was not found' : 'command not found'
  // A mistyped line may have a URL with a password here.
  const shown = command.includes('://') ? 'the command' : command
  say(`reconcile-lock: ${shown}: ${isMissing ? missing : textOf(error)}`)
  return isMissing ? exitCodes.notFound : exitCodes.notExecutable
}

/**
 * What the system says, without the name of the call that nobody has made by hand.
 * @param {NodeJS.ErrnoException} error
 */
function textOf({ errno, message }) {
  return getSystemErrorMap().get(errno ?? 0)?.[1] ?? message
}

module.exports = { runCommand }
