import type { JsLock } from '../binding.js'
import { absolute, createLock } from './acquire.js'
import { AcquireCall, NOTIFY_INTERVAL_MS, Refusals, throwIfAborted, type Wait } from './acquire-call.js'
import { errorOf } from './failure.js'
import { held } from './held-locks.js'
import { Lock } from './lock.js'
import { native, resultOf, settled, unrefCall } from './native.js'
import { acquireOptions, explain, type Options, settingsOf } from './options.js'
import { publishContended } from './shared/channels.js'
import { monotonic } from './shared/clock.js'
import { isContention, type LockError } from './shared/errors.js'

/** How long a synchronous wait may block the engine from terminating its thread, in milliseconds. */
const SYNC_WAIT_SLICE_MS = 20

export function acquireLockSync(...args: unknown[]): Lock {
  const outcome = acquireSync(args)
  if (outcome instanceof Lock) return outcome
  throw outcome
}

/** @returns the error of an attempt, because the engine does not optimize a function that only throws */
function acquireSync(args: unknown[]): Lock | Error {
  const options = acquireOptions('acquireLockSync', args)
  const { cwd, file, message, slots, timeout, signal } = options
  throwIfAborted(signal)
  if (timeout || slots > 1) {
    const call = new AcquireCall(options)
    const acquired = attemptWithinSync(options, call)
    return acquired instanceof Lock ? acquired : countedLock(acquired, call)
  }
  const outcome = native.acquireSync(cwd, file, message, settingsOf(options), 0, 0)
  if (!Array.isArray(outcome)) return countedLock(outcome as JsLock)
  const error = errorOf(outcome)
  if (isContention(error)) publishContended(error)
  return explain(options, error)
}

function countedLock(acquired: JsLock, call?: AcquireCall): Lock {
  held.retainExitHook()
  return createLock(acquired, call)
}

/** @returns a `Lock` after a wait, or a `JsLock` that the caller must count */
function attemptWithinSync(options: Options, call: AcquireCall): JsLock | Lock {
  try {
    if (!call.slots) return firstAttemptSync(options, call)
    const refusals = new Refusals()
    for (const file of call.slots) {
      if (refusals.error && call.isLate) throw call.unanswered(file)
      try {
        return firstAttemptSync(options, call, file)
      } catch (error) {
        refusals.add(error)
        if (call.isUnanswered) throw error
      }
    }
    throw refusals.error
  } catch (error) {
    const remaining = call.remainingOrThrow(explain(options, error))
    return waitSync(call, remaining, options)
  }
}

/** @param path the absolute path of the lock if it is known */
function firstAttemptSync(options: Options, call: AcquireCall, path?: string): JsLock {
  const { timeout } = options
  const { id, message, settings } = call
  const cwd = path === undefined ? options.cwd : undefined
  const file = path ?? options.file
  const acquired = native.acquireSync(cwd, file, message, settings, timeout, id)
  return resultOf(acquired) ?? awaitFirstAnswer(absolute(cwd, file), call)
}

/** Claims a lock that an asynchronous call of this thread has acquired and not returned yet. */
function claim(path: string, { durable, legacy, shared }: Options): JsLock | undefined {
  for (;;) {
    const claimed = held.claim(path)
    if (!claimed || (!durable && claimed.shared === shared && !(legacy && claimed.takenOver))) return claimed
    // Its record may not be synced, it is of the other mode, or its take-over may not have paused: roll it back, for
    // this call to acquire by itself.
    unrefCall(settled(native.rollBack(claimed.id))).catch(() => {})
  }
}

/** Waits until the deadline for the first attempt, which a slow disk delays. */
function awaitFirstAnswer(file: string, call: AcquireCall): JsLock {
  const end = monotonic() + call.remainingForAnswers
  for (let left = end - monotonic(); left > 0; left = end - monotonic()) {
    const acquired = resultOf(native.waitSlice(call.id, Math.min(SYNC_WAIT_SLICE_MS, left)))
    if (acquired) return acquired
  }
  native.cancelWait(call.id)
  throw call.unanswered(file)
}

function waitSync(call: AcquireCall, remaining: number, options: Options): JsLock | Lock {
  const waits = call.planWaits()
  for (const { file } of waits) {
    const acquired = claim(file, options)
    if (acquired) return acquired
  }
  held.retainExitHook()
  try {
    const acquired = waitInSlices(call, startWaitsSync(call, waits, remaining), options.signal)
    // Rolls back a second slot.
    if (waits.length > 1) call.cancelWaits()
    return createLock(acquired, call)
  } catch (error) {
    call.cancelWaits()
    held.releaseExitHook()
    throw error
  }
}

/** @returns the waits that have started; a wait for a slot that this thread holds would not end */
function startWaitsSync({ message, settings }: AcquireCall, waits: Wait[], remaining: number): Wait[] {
  let deadlock: unknown
  const started = waits.filter(({ id, file }) => {
    try {
      resultOf(native.waitSync(id, file, message, settings, remaining))
      return true
    } catch (error) {
      if ((error as LockError).code !== 'E_LOCK_DEADLOCK') throw error
      deadlock ??= error
      return false
    }
  })
  if (started.length === 0) throw deadlock
  return started
}

/** @param signal only a listener of the wait can abort it while this thread waits */
function waitInSlices(call: AcquireCall, waits: Wait[], signal: AbortSignal | undefined): JsLock {
  let waiting = waits
  const refusals = new Refusals()
  for (let next = 0; ; ) {
    if (call.hasObserver && monotonic() >= next) {
      call.notify()
      next = monotonic() + NOTIFY_INTERVAL_MS
    }
    for (const wait of waiting) {
      throwIfAborted(signal)
      try {
        const acquired = resultOf(native.waitSlice(wait.id, SYNC_WAIT_SLICE_MS / waiting.length))
        if (acquired) return acquired
      } catch (error) {
        refusals.add(error)
        waiting = waiting.filter((other) => other !== wait)
      }
    }
    if (waiting.length === 0) throw call.withLastKnownHolder(refusals.error)
  }
}
