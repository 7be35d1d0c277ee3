import type { JsLock } from '../binding.js'
import type { Lock } from '../index.js'
import { errorOf } from './failure.js'
import { native, resultOf } from './native.js'
import { hasEndSubscribers, hasLossSubscribers, publishEnded } from './shared/channels.js'
import { setImmediate } from './shared/clock.js'
import { LockError, lossError, warn } from './shared/errors.js'
import { process } from './shared/globals.js'

export type HeldLock = Pick<Lock, 'path' | 'holder' | 'isHeld' | 'release' | 'releaseSync'>

/** The held locks of this thread, by id. */
const heldLocks = new Map<number, HeldLock>()

/** A mark on the class of the locks. */
const BRAND = Symbol('lock')

/** Locks that asynchronous calls have acquired and return in this turn of the event loop or the next. */
const undelivered = new Set<JsLock>()

/** The locks whose asynchronous release is under way: the addon no longer finds them. */
const releasing = new Set<HeldLock>()

/** The ids of locks that calls have acquired but not returned yet, because they still roll back other slots. */
const returning = new Set<number>()

/** How many locks are held or being acquired. */
let activeCount = 0

let hasExitHook = false

/** How often the exit hook was removed in this turn of the event loop. */
let removalsThisTurn = 0

/** In a child with an IPC channel, Node.js keeps 150 bytes for each listener that one turn adds and removes. */
const MAX_REMOVALS_PER_TURN = 100

/** Listens for the exit of this process or worker while any lock is held or being acquired. */
function retainExitHook(): void {
  activeCount += 1
  if (hasExitHook) return
  hasExitHook = true
  // A frozen process throws. `exit(3)` then releases the locks, as after the removal of all listeners.
  try {
    process.on('exit', releaseAll)
  } catch {}
}

function releaseExitHook(): void {
  activeCount -= 1
  if (activeCount > 0 || removalsThisTurn > MAX_REMOVALS_PER_TURN) return
  removeExitHook()
  if (removalsThisTurn === 0) setImmediate(resetTurn).unref()
  removalsThisTurn += 1
}

function resetTurn(): void {
  removalsThisTurn = 0
  if (activeCount === 0) removeExitHook()
}

function removeExitHook(): void {
  hasExitHook = false
  try {
    process.removeListener('exit', releaseAll)
  } catch {}
}

function track(id: number, lock: HeldLock): void {
  heldLocks.set(id, lock)
  if (!hasLossSubscribers()) return
  try {
    watch(id, lock)
  } catch (error) {
    // The system refuses the thread that watches. The lock is held, and its release finds a loss, too.
    warn(error)
  }
}

/** Whether a value is a lock that is or was held. */
function isLock(value: unknown): value is HeldLock {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype !== null && Object.hasOwn(prototype as object, BRAND)
}

/** The losses of locks that were lost, or whose `signal` was read. */
const losses = new WeakMap<HeldLock, AbortController>()

function lossOf(lock: HeldLock): AbortController {
  let loss = losses.get(lock)
  if (!loss) {
    loss = new AbortController()
    losses.set(lock, loss)
  }
  return loss
}

/** Returns the signal that is aborted when the lock is lost. */
function watch(id: number, lock: HeldLock): AbortSignal {
  // First, because it can throw: the next call then tries again.
  if (!losses.has(lock)) {
    const errno = native.reportLoss(id, (reason) => markLost(lock, lossError(lock.path, reason)))
    if (errno !== null) throw errorOf([errno, 'pthread_create', lock.path, ''])
  }
  return lossOf(lock).signal
}

function markLost(lock: HeldLock, error: LockError): void {
  const loss = lossOf(lock)
  if (loss.signal.aborted) return
  publishEnded(lock, error)
  loss.abort(error)
}

/** Removes a released lock. An error means that the lock was lost or that its file remains. */
function untrack(id: number | undefined, error?: unknown): void {
  if (id === undefined) return
  const lock = heldLocks.get(id)
  if (!lock) return
  heldLocks.delete(id)
  releaseExitHook()
  if (isLoss(error)) markLost(lock, error)
  else if (isUnreported(lock)) publishEnded(lock)
}

function findIdByPath(path: string): number | undefined {
  for (const [id, lock] of heldLocks) if (lock.path === path) return id
  return undefined
}

/** The lock of an id of the addon; the id is `null` if it has none. */
const get = (id: number | null): HeldLock | undefined => (id === null ? undefined : heldLocks.get(id))

function releaseAll(): void {
  const ends = hasEndSubscribers() ? [...heldLocks].filter(([, lock]) => isUnreported(lock)) : []
  const reasons = new Map<number, string>()
  // Electron emits `exit` for each window, and windows of one origin share a thread with all of its locks.
  if ((process as { type?: string }).type === 'renderer') releaseTracked(reasons)
  else native.releaseAll((id, reason) => reasons.set(id, reason))
  // A later listener that releases a lock publishes nothing.
  heldLocks.clear()
  for (const [id, lock] of ends) publishEnded(lock, reasons.has(id) ? { reason: reasons.get(id) } : undefined)
}

function releaseTracked(reasons: Map<number, string>): void {
  for (const id of heldLocks.keys()) {
    try {
      resultOf(native.releaseByIdSync(id))
    } catch (error) {
      if (isLoss(error)) reasons.set(id, error.reason ?? '')
    }
  }
}

const isLoss = (error: unknown): error is LockError =>
  error instanceof LockError && error.code === 'E_LOCK_LOST'

const isUnreported = (lock: HeldLock): boolean => !losses.get(lock)?.signal.aborted

const keep = (acquired: JsLock): void => void undelivered.add(acquired)

/**
 * Removes and returns an undelivered lock. The call that acquired it claims it in its turn, unless a synchronous call,
 * which would wait for it forever, has claimed it before.
 * @param acquired returns only this lock
 */
function claim(path: string, acquired?: JsLock): JsLock | undefined {
  const claimed = acquired ?? [...undelivered].find((kept) => kept.path === path)
  return claimed && undelivered.delete(claimed) && native.deliver(claimed.id) ? claimed : undefined
}

const own = {
  BRAND,
  retainExitHook,
  releaseExitHook,
  track,
  untrack,
  watch,
  findIdByPath,
  get,
  releasing,
  returning,
  isLock,
  keep,
  claim,
}

// Copies of this JavaScript in one thread share the addon, and through it these locks: each copy can release those of
// the others.
const shared = native as unknown as { held?: typeof own }
shared.held ??= own

export const held = shared.held
