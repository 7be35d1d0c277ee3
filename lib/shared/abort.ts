import { addAbortListener } from 'node:events'

const callbacksBySignal = new WeakMap<AbortSignal, Set<() => void>>()

function runCallbacks({ target }: Event): void {
  const signal = target as AbortSignal
  const callbacks = callbacksBySignal.get(signal) ?? []
  callbacksBySignal.delete(signal)
  for (const callback of callbacks) callback()
}

/**
 * Calls `callback` when the signal is aborted; it must not be aborted yet. One listener of the signal serves all
 * callbacks, because Node.js warns of a memory leak from the eleventh listener on.
 * @returns a function that removes the callback
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const callbacks = callbacksBySignal.get(signal) ?? new Set()
  if (callbacks.size === 0) {
    callbacksBySignal.set(signal, callbacks)
    // Unlike `addEventListener`, its listener runs even if an earlier one has called `stopImmediatePropagation`.
    addAbortListener(signal, runCallbacks as (event: unknown) => void)
  }
  callbacks.add(callback)
  return () => {
    if (callbacks.delete(callback) && callbacks.size === 0 && callbacksBySignal.get(signal) === callbacks) {
      callbacksBySignal.delete(signal)
      signal.removeEventListener('abort', runCallbacks)
    }
  }
}
