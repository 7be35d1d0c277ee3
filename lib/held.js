'use strict'

const channels = require('./channels.js')
const { LockError } = require('./errors.js')
const native = require('./native.js')

/** @typedef {{ path: string, holder: import('../index.js').Holder, isHeld(): boolean }} Lock */

/** The locks of this thread. @type {Map<number, Lock>} */
const held = new Map()

/** Locks that are held or being acquired. */
let busy = 0

/** Watches for the exit of this process or worker, from the first lock that is held or wanted to the last. */
function begin() {
  if (busy === 0) process.on('exit', releaseAll)
  busy += 1
}

function end() {
  busy -= 1
  if (busy === 0) process.removeListener('exit', releaseAll)
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
