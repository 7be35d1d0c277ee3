'use strict'

/** What is to be called when a signal is aborted. @type {WeakMap<AbortSignal, Set<() => void>>} */
const listening = new WeakMap()

/** @param {Event} event */
function tell({ currentTarget }) {
  const signal = /** @type {AbortSignal} */ (currentTarget)
  const listeners = listening.get(signal) ?? []
  listening.delete(signal)
  for (const listener of listeners) listener()
}

/**
 * Calls `listener` when the signal is aborted. One listener of the signal does it for all: from the eleventh on,
 * Node.js would warn of a memory leak.
 * @param {AbortSignal} signal
 * @param {() => void} listener
 * @returns {() => void} ends that
 */
function onAbort(signal, listener) {
  const listeners = listening.get(signal) ?? new Set()
  if (listeners.size === 0) {
    listening.set(signal, listeners)
    signal.addEventListener('abort', tell, { once: true })
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
