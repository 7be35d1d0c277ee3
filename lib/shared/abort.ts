import { addAbortListener } from 'node:events'

interface SharedListener {
  readonly callbacks: Set<() => void>
  readonly listener: () => void
}

/** Whether it has what {@link onAbort} uses: it may be of another realm, or a polyfill. */
export function isSignal(value: unknown): value is AbortSignal {
  if (typeof value !== 'object' || value === null) return false
  const { addEventListener, removeEventListener } = value as Partial<AbortSignal>
  return 'aborted' in value && [addEventListener, removeEventListener].every(isFunction)
}

const isFunction = (value: unknown): boolean => typeof value === 'function'

const listenersBySignal = new WeakMap<AbortSignal, SharedListener>()

/** Adds the one listener of a signal. It does not use the event, whose target some polyfills do not set. */
function addListener(signal: AbortSignal): SharedListener {
  const callbacks = new Set<() => void>()
  const listener = () => {
    listenersBySignal.delete(signal)
    for (const callback of callbacks) callback()
  }
  // Unlike `addEventListener`, its listener runs even if an earlier one has called `stopImmediatePropagation`.
  addAbortListener(signal, listener)
  const added = { callbacks, listener }
  listenersBySignal.set(signal, added)
  return added
}

/**
 * Calls `callback` when the signal is aborted; it must not be aborted yet. One listener of the signal serves all
 * callbacks, because Node.js warns of a memory leak from the eleventh listener on.
 * @returns a function that removes the callback
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const own = listenersBySignal.get(signal) ?? addListener(signal)
  const { callbacks, listener } = own
  callbacks.add(callback)
  return () => {
    if (callbacks.delete(callback) && callbacks.size === 0 && listenersBySignal.get(signal) === own) {
      listenersBySignal.delete(signal)
      signal.removeEventListener('abort', listener)
    }
  }
}
