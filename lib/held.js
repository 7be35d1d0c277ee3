'use strict'

const channels = require('./channels.js')
const { LockError } = require('./errors.js')
const native = require('./native.js')

/** @typedef {{ path: string, holder: import('../index.js').Holder, isHeld(): boolean }} Lock */

/** The locks of this thread. @type {Map<number, Lock>} */
const held = new Map()

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
  held.set(id, lock)
}

/**
 * A release has ended a lock, or an error did that stands for its loss or for a file that stays.
 * @param {number | undefined} id
 * @param {unknown} [error]
 */
function remove(id, error) {
  if (id === undefined) return
  const lock = held.get(id)
  if (!lock) return
  held.delete(id)
  end()
  channels.ended(lock, error instanceof LockError && error.code === 'E_LOCK_LOST' ? error : undefined)
}

/** @param {string} path */
function idOf(path) {
  for (const [id, lock] of held) if (lock.path === path) return id
  return undefined
}

function releaseAll() {
  const reason = 'because somebody removed or replaced the file'
  const ends = channels.watchEnds()
    ? [...held.values()].map((lock) => ({ lock, lost: lock.isHeld() ? undefined : { reason } }))
    : []
  native.releaseAll()
  for (const { lock, lost } of ends) channels.ended(lock, lost)
}

module.exports = { begin, end, add, remove, idOf }
