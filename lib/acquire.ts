import type { JsLock } from '../binding.js'
import { AcquireCall, NOTIFY_INTERVAL_MS, throwIfAborted } from './acquire-call.js'
import { errorOf } from './failure.js'
import { held } from './held-locks.js'
import { Lock } from './lock.js'
import { isPromise, native, resultOf, settled, settleInLaterTurn } from './native.js'
import { acquireOptions, explain, type Options } from './options.js'
import { abortable, releaseLateAcquire } from './shared/abortable.js'
import { publishAcquired, publishContended } from './shared/channels.js'
import { clearTimeout, MAX_TIMER_MS, monotonic, setTimeout } from './shared/clock.js'
import { isContention } from './shared/errors.js'

/** How long a synchronous wait may block the engine from terminating its thread, in milliseconds. */
const SYNC_WAIT_SLICE_MS = 20

/** The minimum time for a first attempt, in milliseconds: a busy machine must not refuse the call, only a holder. */
const FIRST_ANSWER_MS = 200

const notWaited = () => 0

function createLock(acquired: JsLock, waited: () => number): Lock {
  const lock = new Lock(acquired)
  publishAcquired(lock, waited)
  return lock
}

function acquireLockSync(...args: unknown[]): Lock {
  const options = acquireOptions('acquireLockSync', args)
  throwIfAborted(options.signal)
  const call = options.timeout ? new AcquireCall(options) : undefined
  const acquired = call ? attemptWithinSync(options, call) : attemptSync(options)
  if (acquired instanceof Lock) return acquired
  held.retainExitHook()
  return createLock(acquired, call?.waited ?? notWaited)
}

function attemptSync(options: Options): JsLock {
  try {
    const { cwd, file, message, legacy } = options
    return resultOf(native.acquireSync(cwd, file, message, legacy, 0, 0)) as JsLock
  } catch (error) {
    if (isContention(error)) publishContended(error)
    throw explain(options, error)
  }
}

/** @returns a `Lock` after a wait, or a `JsLock` that the caller must count */
function attemptWithinSync(options: Options, call: AcquireCall): JsLock | Lock {
  try {
    const { cwd, file, message, legacy, timeout } = options
    return (
      resultOf(native.acquireSync(cwd, file, message, legacy, timeout, call.id)) ??
      awaitFirstAnswer(options, call)
    )
  } catch (error) {
    const remaining = call.remainingOrThrow(explain(options, error))
    return held.claim(call.target[0]) ?? waitSync(call, remaining, options.signal)
  }
}

/** Waits until the deadline for the first attempt, which a slow disk delays. */
function awaitFirstAnswer({ cwd, file, message }: Options, call: AcquireCall): JsLock {
  const end = monotonic() + Math.max(call.remaining, FIRST_ANSWER_MS)
  for (let left = end - monotonic(); left > 0; left = end - monotonic()) {
    const acquired = resultOf(native.waitSlice(call.id, Math.min(SYNC_WAIT_SLICE_MS, left)))
    if (acquired) return acquired
  }
  native.cancelWait(call.id)
  throw errorOf(native.unanswered(cwd, file, message))
}

function waitSync(call: AcquireCall, remaining: number, signal: AbortSignal | undefined): Lock {
  held.retainExitHook()
  try {
    resultOf(native.waitSync(call.id, ...call.target, remaining))
    return createLock(waitInSlices(call, signal), call.waited)
  } catch (error) {
    native.cancelWait(call.id)
    held.releaseExitHook()
    throw call.withLastKnownHolder(error)
  }
}

/** @param signal only a listener of the wait can abort it while this thread waits */
function waitInSlices(call: AcquireCall, signal: AbortSignal | undefined): JsLock {
  for (let next = 0; ; ) {
    if (call.hasObserver && monotonic() >= next) {
      call.notify()
      next = monotonic() + NOTIFY_INTERVAL_MS
    }
    throwIfAborted(signal)
    const acquired = resultOf(native.waitSlice(call.id, SYNC_WAIT_SLICE_MS))
    if (acquired) return acquired
  }
}

async function acquireLock(...args: unknown[]): Promise<Lock> {
  const options = acquireOptions('acquireLock', args)
  const { signal } = options
  throwIfAborted(signal)
  const call = new AcquireCall(options)
  return signal
    ? abortable(() => acquire(options, call), signal, call, Lock.rollBack)
    : acquire(options, call)
}

async function acquire(options: Options, call: AcquireCall): Promise<Lock> {
  held.retainExitHook()
  try {
    const acquired = attempt(options, call).catch((error) => wait(call, call.remainingOrThrow(error)))
    return createLock(await acquired, call.waited)
  } catch (error) {
    held.releaseExitHook()
    throw explain(options, error)
  }
}

async function attempt({ cwd, file, message, legacy, timeout }: Attempt, call: AcquireCall): Promise<JsLock> {
  const outcome = native.acquire(cwd, file, message, legacy, timeout)
  if (isPromise(outcome)) {
    const lock = settled(outcome)
    if (!timeout || timeout > MAX_TIMER_MS) return lock
    return within(lock, call.remaining, () => errorOf(native.unanswered(cwd, file, message)))
  }
  if (Array.isArray(outcome)) return settled<JsLock>(outcome as never)
  held.keep(outcome)
  await settleInLaterTurn(undefined)
  // The process may have changed its current directory.
  const again = { cwd: undefined, file: outcome.path, message, legacy, timeout }
  return held.claim(outcome.path, outcome) ?? attempt(again, call)
}

type Attempt = Pick<Options, 'cwd' | 'file' | 'message' | 'legacy' | 'timeout'>

/** A slow disk may delay a first attempt beyond the deadline. A lock that it acquires after that is rolled back. */
function within(lock: Promise<JsLock>, milliseconds: number, lateError: () => Error): Promise<JsLock> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => {
        reject(lateError())
        lock.then(({ id }) => settled(native.giveBack(id))).catch(() => {})
      },
      Math.max(milliseconds, FIRST_ANSWER_MS),
    )
    lock.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}

async function wait(call: AcquireCall, remaining: number): Promise<JsLock> {
  const lock = settled(native.wait(call.id, ...call.target, remaining))
  try {
    return await (call.hasObserver ? waitWithNotifications(call, lock) : lock)
  } catch (error) {
    // Only needed if the listener failed: otherwise the wait has ended.
    native.cancelWait(call.id)
    await releaseLateAcquire(lock.then(({ id }) => settled(native.giveBack(id))))
    // A synchronous call of this thread has claimed the lock that this call had acquired.
    if (isContention(error) && call.remaining > 0) return wait(call, call.remaining)
    throw call.withLastKnownHolder(error)
  }
}

/** Notifies the listener; ends the wait if it throws. */
async function waitWithNotifications(call: AcquireCall, lock: Promise<JsLock>): Promise<JsLock> {
  let timer: NodeJS.Timeout | undefined
  const failed = new Promise<never>((_, reject) => {
    const notify = () => {
      try {
        call.notify()
        // A timer may be a millisecond early.
        timer = setTimeout(notify, NOTIFY_INTERVAL_MS + 1)
      } catch (error) {
        reject(error)
      }
    }
    notify()
  })
  try {
    return await Promise.race([lock, failed])
  } finally {
    clearTimeout(timer)
  }
}

export { acquireLock, acquireLockSync }
