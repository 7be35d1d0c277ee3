import { types } from 'node:util'
import { errorOf } from './failure.js'
import { load } from './load.js'
import { setImmediate } from './shared/clock.js'

export const { isPromise } = types

export const native = load()

// Loading that module would be a quarter of what loading this package costs.
native.setup(() => (require('node:worker_threads') as typeof import('node:worker_threads')).threadId)

/** What the addon returned for a call: a value, or an array that an error is made of, in this realm. */
export function resultOf<T>(outcome: T): Exclude<T, unknown[]> {
  if (Array.isArray(outcome)) throw errorOf(outcome)
  return outcome as Exclude<T, unknown[]>
}

/**
 * What the addon returned for an asynchronous call: a promise, or a result. A result settles in a later turn of the event
 * loop too: a program that retries in a loop must not keep its own timers from running.
 */
export async function settled<T>(outcome: T | Promise<T>): Promise<Exclude<T, unknown[]>> {
  return resultOf(isPromise(outcome) ? await outcome : await settleInLaterTurn(outcome))
}

export const settleInLaterTurn = <T>(value: T): Promise<T> =>
  new Promise((resolve) => setImmediate(resolve as (value: T) => void, value))
