'use strict'

const { acquireLock } = require('../index.js')
const { runCommand } = require('./command.js')
const exitCodes = require('./exit-codes.js')
const { duration, describe, nameOf, say } = require('./say.js')
const { Signals, dieOf } = require('./signals.js')
const { WaitingLine } = require('./waiting-line.js')

/**
 * @typedef {import('../index.js').Lock} Lock
 * @typedef {import('../index.js').LockError} LockError
 * @typedef {import('../index.js').TakenOver} TakenOver
 * @typedef {import('./command.js').End} End
 * @typedef {import('./options.js').Run} Run
 */

/** What ends a wait. */
const FATAL = new Set(['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'])

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
 * @param {InstanceType<typeof Signals>} signals
 * @returns {Promise<Lock | End>}
 */
async function acquire({ file, message, timeout }, signals) {
  const line = new WaitingLine()
  const abort = new AbortController()
  signals.listen((signal) => {
    if (signal === 'SIGTSTP') line.remove()
    if (FATAL.has(signal)) abort.abort(signal)
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
    if (lock.takenOver) say(`reconcile-lock: ${took(lock.takenOver)}`)
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

/** @param {TakenOver} takenOver */
function took({ holder, reason }) {
  if (!holder) return `took over a lock, nobody knows whose: ${reason}`
  const age = duration(Date.now() - holder.createdAt)
  return `took over the lock of ${nameOf(holder)}, acquired ${age} ago: ${reason}`
}

/**
 * @param {Lock} lock
 * @param {string[]} command
 * @param {InstanceType<typeof Signals>} signals
 * @returns {Promise<End>}
 */
async function runUnder(lock, [command = '', ...args], signals) {
  const end = await runCommand(command, args, signals)
  try {
    await lock.release()
  } catch (error) {
    say(`reconcile-lock: ${/** @type {Error} */ (error).message}`)
    return end === exitCodes.ok ? exitCodes.ioError : end
  }
  return end
}

module.exports = { run }
