import { addAbortListener } from 'node:events'

const callbacksBySignal = new WeakMap<AbortSignal, Set<() => void>>()

function runCallbacks({ target }: Event): void {
  const signal = target as AbortSignal
  const callbacks = callbacksBySignal.get(signal) ?? []
  callbacksBySignal.delete(signal)
  for (const callback of callbacks) callback()
}

/**
 * Calls `callback` when the signal, which is not aborted yet, is aborted. One listener of the signal serves all
 * callbacks: from the eleventh listener on, Node.js would warn of a memory leak.
 * @returns removes the callback
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const callbacks = callbacksBySignal.get(signal) ?? new Set()
  if (callbacks.size === 0) {
    callbacksBySignal.set(signal, callbacks)
    // It runs even if a listener before it has called `stopImmediatePropagation`.
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
