'use strict'

const { now } = require('../lib/clock.js')
const { runCommand } = require('./command.js')
const exitCodes = require('./exit-codes.js')
const { withNamed } = require('./named.js')
const { duration, nameOf, say } = require('./say.js')
const { Signals, dieOf } = require('./signals.js')
const { WaitingLine } = require('./waiting-line.js')

/**
 * @typedef {import('./named.js').Lock} Lock
 * @typedef {import('./named.js').Named} Named
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
  const end = await withNamed(options, async (named) => {
    const lock = await acquire(named, options, signals)
    if (typeof lock !== 'object') return lock
    const descriptor = options.close ? undefined : named.descriptorOf(lock)
    return runUnder(lock, descriptor, options, signals)
  })
  signals.end()
  if (typeof end === 'string') dieOf(end)
  else process.exitCode = end
}

/**
 * @param {Named} named
 * @param {Run} options
 * @param {InstanceType<typeof Signals>} signals
 * @returns {Promise<Lock | End>}
 */
async function acquire(named, { message, timeout }, signals) {
  const line = new WaitingLine()
  const abort = new AbortController()
  signals.listen((signal) => {
    if (signal === 'SIGTSTP') line.remove()
    if (FATAL.has(signal)) abort.abort(signal)
  })
  try {
    const lock = await named.acquire({
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
    const { code, message } = /** @type {LockError} */ (error)
    if (code !== 'E_LOCK_CONTENTION') throw error
    // A program may compare the message, so it has a line of its own.
    say(message)
    say(`reconcile-lock: ${held(/** @type {LockError} */ (error))}`)
    return exitCodes.contention
  }
}

/** @param {LockError} refused */
function held({ path, holder, reason }) {
  const by = holder ? ` by ${nameOf(holder)} for ${duration(now() - holder.createdAt)}` : ''
  return `${path} is held${by}${reason === undefined ? '' : `: ${reason}`}`
}

/** @param {TakenOver} takenOver */
function took({ holder, reason }) {
  if (!holder) return `took over a lock, nobody knows whose: ${reason}`
  const age = duration(now() - holder.createdAt)
  return `took over the lock of ${nameOf(holder)}, acquired ${age} ago: ${reason}`
}

/**
 * @param {Lock} lock
 * @param {number | undefined} descriptor of the lock, for the command to inherit
 * @param {Run} options
 * @param {InstanceType<typeof Signals>} signals
 * @returns {Promise<End>}
 */
async function runUnder(lock, descriptor, { command: [command = '', ...args], killAfter }, signals) {
  const { token, signal: loss } = 'token' in lock ? lock : {}
  // That of a run around this one fences another lock.
  delete process.env.RECONCILE_LOCK_TOKEN
  if (token !== undefined) process.env.RECONCILE_LOCK_TOKEN = String(token)
  const end = await runCommand(command, args, { signals, loss, killAfter, descriptor })
  const hasBeenTold = loss?.aborted
  try {
    await lock.release()
  } catch (error) {
    if (hasBeenTold) return exitCodes.ioError
    say(`reconcile-lock: ${/** @type {Error} */ (error).message}`)
    return end === exitCodes.ok ? exitCodes.ioError : end
  }
  return end
}

module.exports = { run }
