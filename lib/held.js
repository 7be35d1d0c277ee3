'use strict'

const channels = require('./channels.js')
const { setImmediate } = require('./clock.js')
const { LockError } = require('./errors.js')
const { native } = require('./native.js')

/**
 * @typedef {object} Lock
 * @property {string} path
 * @property {import('../index.js').Holder} holder
 * @property {() => boolean} isHeld
 * @property {() => Promise<void>} release
 */

/** The locks of this thread. @type {Map<number, Lock>} */
const byId = new Map()

/** Every lock that is or was held. @type {WeakSet<object>} */
const locks = new WeakSet()

/**
 * What asynchronous calls have acquired and are given in the next turn of the event loop, by path.
 * @type {Map<string, import('../binding.js').JsLock>}
 */
const undelivered = new Map()

/** Locks that are held or being acquired. */
let busy = 0

let isWatching = false

/** How often watching ended since the event loop turned. */
let ends = 0

/** In a child with an IPC channel, Node.js keeps 150 bytes for each listener that came and went in one turn. */
const MOST_ENDS = 100

/** Watches for the exit of this process or worker, from the first lock that is held or wanted to the last. */
function begin() {
  busy += 1
  if (isWatching) return
  process.on('exit', releaseAll)
  isWatching = true
}

function end() {
  busy -= 1
  if (busy > 0 || ends > MOST_ENDS) return
  stopWatching()
  if (ends === 0) setImmediate(turn).unref()
  ends += 1
}

function turn() {
  ends = 0
  if (busy === 0) stopWatching()
}

function stopWatching() {
  process.removeListener('exit', releaseAll)
  isWatching = false
}

/**
 * @param {number} id
 * @param {Lock} lock
 */
function add(id, lock) {
  byId.set(id, lock)
  locks.add(lock)
}

/**
 * The path of a lock; `undefined` for anything else.
 * @param {unknown} value
 */
const pathOf = (value) =>
  typeof value === 'object' && value !== null && locks.has(value)
    ? /** @type {Lock} */ (value).path
    : undefined

/**
 * A release has ended a lock, or an error did that stands for its loss or for a file that stays.
 * @param {number | undefined} id
 * @param {unknown} [error]
 */
function remove(id, error) {
  if (id === undefined) return
  const lock = byId.get(id)
  if (!lock) return
  byId.delete(id)
  end()
  channels.ended(lock, error instanceof LockError && error.code === 'E_LOCK_LOST' ? error : undefined)
}

/** @param {string} path */
function idOf(path) {
  for (const [id, lock] of byId) if (lock.path === path) return id
  return undefined
}

/**
 * The last lock that was acquired at a path: one before it may still be on its way out.
 * @param {string} path
 */
function at(path) {
  let last
  for (const lock of byId.values()) if (lock.path === path) last = lock
  return last
}

function releaseAll() {
  const reason = 'because the path does not name the file now'
  const ends = channels.watchEnds()
    ? [...byId.values()].map((lock) => ({ lock, lost: lock.isHeld() ? undefined : { reason } }))
    : []
  native.releaseAll()
  for (const { lock, lost } of ends) channels.ended(lock, lost)
}

/** @param {import('../binding.js').JsLock} acquired */
const keep = (acquired) => void undelivered.set(acquired.path, acquired)

/**
 * Takes what was kept: the call that has acquired it does so in its turn, unless a synchronous call, which would wait
 * for it for ever, did before.
 * @param {string} path
 * @param {import('../binding.js').JsLock} [acquired] nothing but this
 */
function claim(path, acquired) {
  const kept = undelivered.get(path)
  if (acquired && kept !== acquired) return undefined
  undelivered.delete(path)
  return kept
}

const ours = { begin, end, add, at, remove, idOf, pathOf, keep, claim }

// Copies of this JavaScript in one thread share the addon, and through it these locks: each of them releases those of
// the others.
const shared = /** @type {{ held?: typeof ours }} */ (/** @type {unknown} */ (native))
const held = shared.held ?? ours
shared.held = held

module.exports = held
