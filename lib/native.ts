import { types } from 'node:util'
import type { JsLock, JsTakenOver } from '../binding.js'
import { errorOf } from './failure.js'
import { load } from './load.js'
import { setImmediate } from './shared/clock.js'

export const { isPromise } = types

export const native = load()

// Loaded on demand: this module would be a quarter of the loading time of this package.
native.setup(
  () => (require('node:worker_threads') as typeof import('node:worker_threads')).threadId,
  () => {},
)

/** @returns the object that the addon would make */
export const toJsLock = (
  id: number,
  path: string,
  createdAt: number,
  takenOver: JsTakenOver | null,
  shared: boolean,
): JsLock => ({ id, path, createdAt, takenOver, shared })

/** @returns the array that the addon would make of a refusal */
export const toFailure = (...fields: unknown[]): unknown[] => fields

/** The result of a call of the addon. An array is a failure, and is thrown as an error of this realm. */
export function resultOf<T>(outcome: T): Exclude<T, unknown[]> {
  if (Array.isArray(outcome)) throw errorOf(outcome)
  return outcome as Exclude<T, unknown[]>
}

/**
 * The outcome of an asynchronous call of the addon: a promise or a result. A result also settles in a later turn of the
 * event loop, so that a program that retries in a loop does not block its own timers.
 */
export function settled<T>(outcome: T | Promise<T>): Promise<Exclude<T, unknown[]>> {
  return (isPromise(outcome) ? outcome : settleInLaterTurn(outcome)).then(resultOf)
}

export const settleInLaterTurn = <T>(value: T): Promise<T> =>
  new Promise((resolve) => setImmediate(resolve as (value: T) => void, value))

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
