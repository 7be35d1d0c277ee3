'use strict'

const { addAbortListener } = require('node:events')

/** What is to be called when a signal is aborted. @type {WeakMap<AbortSignal, Set<() => void>>} */
const listening = new WeakMap()

/** @param {Event} event */
function tell({ target }) {
  const signal = /** @type {AbortSignal} */ (target)
  const listeners = listening.get(signal) ?? []
  listening.delete(signal)
  for (const listener of listeners) listener()
}

/**
 * Calls `listener` when the signal, which is not aborted yet, is aborted. One listener of the signal does it for
 * all: from the eleventh on, Node.js would warn of a memory leak.
 * @param {AbortSignal} signal
 * @param {() => void} listener
 * @returns {() => void} ends that
 */
function onAbort(signal, listener) {
  const listeners = listening.get(signal) ?? new Set()
  if (listeners.size === 0) {
    listening.set(signal, listeners)
    // It hears of an abort even if a listener before it has called `stopImmediatePropagation`.
    addAbortListener(signal, tell)
  }
  listeners.add(listener)
  return () => {
    if (listeners.delete(listener) && listeners.size === 0 && listening.get(signal) === listeners) {
      listening.delete(signal)
      signal.removeEventListener('abort', tell)
    }
  }
}

module.exports = { onAbort }
