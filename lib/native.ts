import { types } from 'node:util'
import type { JsLock } from '../binding.js'
import { errorOf } from './failure.js'
import { load } from './load.js'
import { monotonic, setImmediate } from './shared/clock.js'

export const { isPromise } = types

export const native = load()

native.setup(
  // Loaded on demand: this module would be a quarter of the loading time of this package.
  () => (require('node:worker_threads') as typeof import('node:worker_threads')).threadId,
  (id, path, createdAt, takenOver, shared): JsLock => ({ id, path, createdAt, takenOver, shared }),
  (...fields) => fields,
  // Jest asks it, and would report an open handle.
  { hasRef: () => native.isAwaited() },
)

/** The result of a call of the addon. An array is a failure, and is thrown as an error of this realm. */
export function resultOf<T>(outcome: T): Exclude<T, unknown[]> {
  if (Array.isArray(outcome)) throw errorOf(outcome)
  // The addon has thrown an error, and the engine of a thread that is being terminated has dropped it: a loop must end.
  if (outcome === undefined) throw new Error('this thread is being terminated')
  return outcome as Exclude<T, unknown[]>
}

/** How long calls whose result is there may keep the event loop from its next turn, in milliseconds. */
const TURN_MS = 0.1

/** When such a call was the first one of this turn. */
let turnStarted: number | undefined

/** The outcome of an asynchronous call of the addon: a promise or a result. */
export function settled<T>(outcome: T | Promise<T>): Promise<Exclude<T, unknown[]>> {
  return (isPromise(outcome) ? outcome : inTurn(outcome)).then(resultOf)
}

/**
 * A promise of a result that is there. It settles in this turn of the event loop, or in the next one if this one has taken
 * long: a program that retries in a loop must not block its own timers.
 */
export async function inTurn<T>(result: T): Promise<T> {
  const now = monotonic()
  if (turnStarted === undefined) {
    turnStarted = now
    setImmediate(() => {
      turnStarted = undefined
    })
  }
  if (now - turnStarted >= TURN_MS) await new Promise((resolve) => setImmediate(resolve))
  return result
}

/**
 * Lets the process end although a call is pending: its caller has an answer, and a disk may hang. The exit of the
 * process waits a moment for pending work.
 */
export function unrefCall(call: Promise<unknown>): Promise<unknown> {
  native.keepAlive(-1)
  const settle = () => native.keepAlive(1)
  call.then(settle, settle)
  return call
}
