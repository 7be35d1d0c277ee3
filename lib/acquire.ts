import type { JsLock } from '../binding.js'
import { AcquireCall, NOTIFY_INTERVAL_MS, Refusals, throwIfAborted, type Wait } from './acquire-call.js'
import { held } from './held-locks.js'
import { Lock } from './lock.js'
import { inTurn, isPromise, native, settled, unrefCall } from './native.js'
import { acquireOptions, explain, type Options } from './options.js'
import { abortable, releaseLateAcquire } from './shared/abortable.js'
import { publishAcquired } from './shared/channels.js'
import { clearTimeout, MAX_TIMER_MS, setImmediate, setTimeout } from './shared/clock.js'
import { isContention } from './shared/errors.js'
import { NativePromise } from './shared/globals.js'

/** Makes the lock of an acquire, which its call has counted by `held.retainExitHook`. */
export function createLock(acquired: JsLock, call?: AcquireCall): Lock {
  const lock = new Lock(acquired)
  publishAcquired(lock, call)
  return lock
}

export function acquireLock(...args: unknown[]): Promise<Lock> {
  try {
    const options = acquireOptions('acquireLock', args)
    const { signal } = options
    throwIfAborted(signal)
    const call = new AcquireCall(options)
    return signal
      ? abortable(() => acquire(options, call), signal, call, Lock.rollBack)
      : acquire(options, call)
  } catch (error) {
    return Promise.reject(error)
  }
}

async function acquire(options: Options, call: AcquireCall): Promise<Lock> {
  held.retainExitHook()
  try {
    let acquired: JsLock
    // Not `catch()` with a promise: a waiter would keep two promises and three functions more.
    try {
      acquired = await attemptSlots(options, call)
    } catch (error) {
      acquired = await wait(call, call.remainingOrThrow(error))
    }
    return createLock(acquired, call)
  } catch (error) {
    held.releaseExitHook()
    throw explain(options, error)
  }
}

async function attemptSlots(options: Options, call: AcquireCall): Promise<JsLock> {
  if (!call.slots) return attempt(options, call)
  const refusals = new Refusals()
  for (const file of call.slots) {
    if (refusals.error && call.isLate) throw call.unanswered(file)
    try {
      return await attempt(options, call, file)
    } catch (error) {
      refusals.add(error)
      if (call.isUnanswered) throw error
    }
    if (call.isAborted) break
  }
  throw refusals.error
}

/** @param path the absolute path of the lock if it is known */
async function attempt(options: Options, call: AcquireCall, path?: string): Promise<JsLock> {
  const { timeout } = options
  const { message, settings } = call
  const cwd = path === undefined ? options.cwd : undefined
  const file = path ?? options.file
  const outcome = native.acquire(cwd, file, message, settings, timeout)
  if (isPromise(outcome)) {
    const lock = settled(outcome)
    if (!timeout || timeout > MAX_TIMER_MS) return lock
    const lockPath = absolute(cwd, file)
    const onLate = () => {
      unrefCall(lock.then(({ id }) => settled(native.rollBack(id)))).catch(() => {})
      return call.unanswered(lockPath)
    }
    return within(lock, call.remainingForAnswers, onLate)
  }
  if (Array.isArray(outcome)) return settled<JsLock>(outcome as never)
  held.keep(outcome)
  await inTurn(undefined)
  // The process may have changed its current directory.
  return held.claim(outcome.path, outcome) ?? attempt(options, call, outcome.path)
}

/** The path of a lock, now: the process may change its current directory. It is for an error, and does not fail. */
export function absolute(cwd: string | undefined, file: string | undefined): string {
  const path = native.resolvePath(cwd, file)
  return Array.isArray(path) ? String(file) : (path as string)
}

/**
 * An answer of the addon, which a slow disk may delay beyond the deadline.
 * @param lateError ends the call without the answer
 */
export function within<T>(answer: Promise<T>, milliseconds: number, lateError: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    let isAnswered = false
    const onLate = () => {
      if (!isAnswered) reject(lateError())
    }
    // After a pause of the event loop its timers are late too: the answer may be there, and is read before the immediate.
    const timer = setTimeout(() => setImmediate(onLate), milliseconds)
    // The pending call keeps the process alive, unless it was aborted.
    timer.unref()
    answer.then(resolve, reject).finally(() => {
      isAnswered = true
      clearTimeout(timer)
    })
  })
}

async function wait(call: AcquireCall, remaining: number): Promise<JsLock> {
  const locks = call.planWaits().map((wait, _, { length }) => {
    const lock = startWait(call, wait, remaining)
    return length > 1 ? lock.catch((error) => restartWait(call, wait, error)) : lock
  })
  const lock = firstOf(locks)
  try {
    const acquired = await (call.hasObserver ? waitWithNotifications(call, lock) : lock)
    if (locks.length > 1) {
      held.returning.add(acquired.id)
      await endWaits(call, locks, acquired)
      held.returning.delete(acquired.id)
    }
    return acquired
  } catch (error) {
    // Only needed if the listener failed: otherwise the wait has ended.
    await endWaits(call, locks)
    if (call.hasThrown) throw error
    // As in `restartWait`, without a promise more for each waiter.
    if (isContention(error) && call.remaining > 0) return wait(call, call.remaining)
    throw call.withLastKnownHolder(error)
  }
}

const startWait = (
  { message, settings }: AcquireCall,
  { id, file }: Wait,
  remaining: number,
): Promise<JsLock> => settled(native.wait(id, file, message, settings, remaining))

/** Waits again if a synchronous call of this thread has claimed the lock that this call had acquired. */
function restartWait(call: AcquireCall, wait: Wait, error: unknown): Promise<JsLock> {
  const { isWaiting, remaining } = call
  if (!isContention(error) || !isWaiting || remaining <= 0) throw error
  return startWait(call, wait, remaining).catch((next) => restartWait(call, wait, next))
}

/** Cancels the waits, and rolls back each lock but `acquired`. */
function endWaits(call: AcquireCall, locks: Promise<JsLock>[], acquired?: JsLock): Promise<void> {
  call.cancelWaits()
  const rollBack = async (late: JsLock) => late === acquired || settled(native.rollBack(late.id))
  return releaseLateAcquire(NativePromise.allSettled(locks.map((lock) => unrefCall(lock.then(rollBack)))))
}

/** The first lock that is acquired; if none is, the error of the first one. */
function firstOf(locks: Promise<JsLock>[]): Promise<JsLock> {
  const [only] = locks
  if (only && locks.length === 1) return only
  return NativePromise.any(locks).catch(({ errors }: AggregateError) => {
    throw errors.find((error) => !isContention(error)) ?? errors[0]
  })
}

/** Notifies the listener, also after a wait that was started again; ends the wait if it throws. */
async function waitWithNotifications(call: AcquireCall, lock: Promise<JsLock>): Promise<JsLock> {
  let timer: NodeJS.Timeout | undefined
  const failed = new Promise<never>((_, reject) => {
    const notify = () => {
      try {
        call.notify()
        // A timer may be a millisecond early.
        timer = setTimeout(notify, NOTIFY_INTERVAL_MS + 1)
      } catch (error) {
        call.hasThrown = true
        reject(error)
      }
    }
    const { notificationPause } = call
    if (notificationPause > 0) timer = setTimeout(notify, notificationPause + 1)
    else notify()
  })
  try {
    return await Promise.race([lock, failed])
  } finally {
    clearTimeout(timer)
  }
}
