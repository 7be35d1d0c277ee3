'use strict'

const { spawn } = require('node:child_process')
const { acquireLock } = require('../index.js')
const exitCodes = require('./exit-codes.js')
const { describe, say } = require('./say.js')
const { Signals, dieOf, reachesAll } = require('./signals.js')
const { WaitingLine } = require('./waiting-line.js')

/**
 * @typedef {import('../index.js').Lock} Lock
 * @typedef {import('../index.js').LockError} LockError
 * @typedef {import('./options.js').Run} Run
 * @typedef {InstanceType<typeof import('./signals.js').Signals>} Listening
 * @typedef {number | NodeJS.Signals} End an exit code, or the signal to die of
 */

/** @param {Run} options */
async function run(options) {
  const signals = new Signals()
  const lock = await acquire(options, signals)
  const end = typeof lock === 'object' ? await runUnder(lock, options.command, signals) : lock
  signals.end()
  if (typeof end === 'string') dieOf(end)
  else process.exitCode = end
}

/**
 * @param {Run} options
 * @param {Listening} signals
 * @returns {Promise<Lock | End>}
 */
async function acquire({ file, message, timeout }, signals) {
  const line = new WaitingLine()
  const abort = new AbortController()
  signals.listen((signal) => {
    if (signal !== 'SIGWINCH') abort.abort(signal)
  })
  try {
    const lock = await acquireLock({
      file,
      message,
      timeout,
      signal: abort.signal,
      onWait: process.stderr.isTTY ? (status) => line.show(status) : undefined,
    })
    line.remove()
    if (lock.takenOver) say(`reconcile-lock: took over a lock: ${lock.takenOver.reason}`)
    return lock
  } catch (error) {
    line.remove()
    if (abort.signal.aborted) return abort.signal.reason
    const { code, message, holder } = /** @type {LockError} */ (error)
    if (code !== 'E_LOCK_CONTENTION') throw error
    say(message)
    // A program may compare the message; a person wants to know more.
    if (holder && process.stderr.isTTY) say(describe(holder))
    return exitCodes.contention
  }
}

/**
 * @param {Lock} lock
 * @param {string[]} command
 * @param {Listening} signals
 * @returns {Promise<End>}
 */
async function runUnder(lock, [command = '', ...args], signals) {
  const end = await ended(command, args, signals)
  try {
    await lock.release()
  } catch (error) {
    say(`reconcile-lock: ${/** @type {Error} */ (error).message}`)
    return end === exitCodes.ok ? exitCodes.lost : end
  }
  return end
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {Listening} signals
 * @returns {Promise<End>}
 */
function ended(command, args, signals) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: 'inherit' })
    child.once('error', (error) => {
      const { code, message } = /** @type {NodeJS.ErrnoException} */ (error)
      const isMissing = code === 'ENOENT'
      say(`reconcile-lock: ${command}: ${isMissing ? 'command not found' : message}`)
      resolve(isMissing ? exitCodes.notFound : exitCodes.notExecutable)
    })
    child.once('exit', (code, signal) => resolve(signal ?? code ?? exitCodes.ok))
    signals.listen((signal) => {
      if (!reachesAll(signal)) child.kill(signal)
    })
  })
}

module.exports = { run }
