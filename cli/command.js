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
 * @param {InstanceType<typeof import('./signals.js').Signals>} signals what it is told of
 * @returns {Promise<End>}
 */
function runCommand(command, args, signals) {
  return new Promise((resolve) => {
    const refused = (/** @type {unknown} */ error) =>
      resolve(notRun(command, /** @type {NodeJS.ErrnoException} */ (error)))
    /** @type {ChildProcess} */
    let child
    try {
      child = spawn(command, args, { stdio: 'inherit' })
    } catch (error) {
      // Some refusals of the system are thrown, others arrive as an event.
      return refused(error)
    }
    child.on('error', (error) => {
      if (child.pid === undefined) return refused(error)
      // The command, of another user now, lives on, and so does the lock.
      say(`reconcile-lock: a signal cannot be passed on to process ${child.pid}: ${textOf(error)}`)
    })
    child.once('exit', (code, signal) => resolve(signal ?? code ?? exitCodes.ok))
    signals.listen((signal) => {
      if (!hasTold(signal, child.pid)) child.kill(signal)
    })
  })
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
  say(`reconcile-lock: ${command}: ${isMissing ? missing : textOf(error)}`)
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
