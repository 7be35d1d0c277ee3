'use strict'

const { spawn } = require('node:child_process')
const { existsSync } = require('node:fs')
const { getSystemErrorMap } = require('node:util')
const exitCodes = require('./exit-codes.js')
const { say } = require('./say.js')
const { hasTold } = require('./terminal.js')

/**
 * @typedef {import('node:child_process').ChildProcess} ChildProcess
 * @typedef {number | NodeJS.Signals} End an exit code, or the signal to die of
 */

/**
 * Runs a command to its end.
 * @param {string} command
 * @param {string[]} args
 * @param {object} about
 * @param {InstanceType<typeof import('./signals.js').Signals>} about.signals what it is told of
 * @param {AbortSignal | undefined} about.loss of the lock, after which it should not go on
 * @param {number | undefined} about.descriptor that it inherits
 * @returns {Promise<End>}
 */
function runCommand(command, args, { signals, loss, descriptor }) {
  return new Promise((resolve) => {
    /** @type {ChildProcess} */
    let child
    const lost = () => {
      sayLost(loss?.reason)
      child.kill('SIGTERM')
    }
    const ended = (/** @type {End} */ end) => {
      loss?.removeEventListener('abort', lost)
      resolve(end)
    }
    const refused = (/** @type {unknown} */ error) =>
      ended(notRun(command, /** @type {NodeJS.ErrnoException} */ (error)))
    try {
      child = spawn(command, args, { stdio: streams(descriptor) })
    } catch (error) {
      // Some refusals of the system are thrown, others arrive as an event.
      return refused(error)
    }
    child.on('error', (error) => {
      if (child.pid === undefined) return refused(error)
      // The command, of another user now, lives on, and so does the lock.
      say(`reconcile-lock: a signal cannot be passed on to process ${child.pid}: ${textOf(error)}`)
    })
    child.once('exit', (code, signal) => ended(signal ?? code ?? exitCodes.ok))
    signals.listen((signal) => {
      if (!hasTold(signal, child.pid)) child.kill(signal)
    })
    loss?.addEventListener('abort', lost)
  })
}

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
