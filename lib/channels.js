'use strict'

const { channel, subscribe } = require('node:diagnostics_channel')
const { debuglog } = require('node:util')
const { now } = require('./clock.js')

/**
 * @typedef {import('../index.js').LockChannels} LockChannels
 * @typedef {import('../index.js').Holder} Holder
 * @typedef {import('../index.js').TakenOver} TakenOver
 * @typedef {import('../index.js').WaitStatus} WaitStatus
 * @typedef {import('../index.js').LockError} LockError
 * @typedef {{ path: string, holder: Holder, takenOver?: TakenOver | undefined }} Lock
 */

/** @param {keyof LockChannels} name */
const named = (name) => channel(name)

const channels = {
  acquired: named('reconcile-lock:acquired'),
  contended: named('reconcile-lock:contended'),
  waiting: named('reconcile-lock:waiting'),
  takenover: named('reconcile-lock:takenover'),
  released: named('reconcile-lock:released'),
  lost: named('reconcile-lock:lost'),
}

const debug = debuglog('reconcile-lock')
if (debug.enabled) {
  for (const [event, { name }] of Object.entries(channels)) {
    subscribe(name, (message) => debug('%s %j', event, message))
  }
}

/**
 * @param {Lock} lock
 * @param {() => number} waited
 */
function acquired(lock, waited) {
  if (channels.takenover.hasSubscribers && lock.takenOver) {
    const { path, holder, takenOver } = lock
    const { holder: from, reason } = takenOver
    channels.takenover.publish({ path, at: now(), holder, ...(from && { from }), reason })
  }
  if (channels.acquired.hasSubscribers) {
    const { path, holder, takenOver } = lock
    const times = { at: now(), waited: waited() }
    channels.acquired.publish({ path, ...times, holder, ...(takenOver && { takenOver }) })
  }
}

/** @param {LockError} error */
function contended({ path, holder, reason }) {
  if (!channels.contended.hasSubscribers) return
  const who = { ...(holder && { holder }), ...(reason !== undefined && { reason }) }
  channels.contended.publish({ path, at: now(), ...who })
}

/** @param {WaitStatus} status */
const waiting = (status) => channels.waiting.publish({ at: now(), ...status })

/**
 * The end of a lock that was held.
 * @param {Lock} lock
 * @param {{ reason?: string | undefined }} [lost]
 */
function ended(lock, lost) {
  const end = lost ? channels.lost : channels.released
  if (!end.hasSubscribers) return
  const { path, holder } = lock
  const at = now()
  const message = { path, at, holder, held: Math.max(0, at - holder.createdAt) }
  end.publish(lost ? { ...message, reason: lost.reason } : message)
}

/** Whether the end of a lock interests anybody. */
const watchEnds = () => channels.released.hasSubscribers || channels.lost.hasSubscribers

/** Whether a wait interests anybody. */
const watchWaits = () => channels.waiting.hasSubscribers

module.exports = { acquired, contended, waiting, ended, watchEnds, watchWaits }
