import { releaseLateAcquire } from './abortable.js'
import { monotonic } from './clock.js'
import { argumentError, warn, wrongValue } from './errors.js'
import { NativePromise } from './globals.js'
import { isPlain } from './plain.js'

interface Releasable {
  release(): Promise<void>
}

/** The functions that `withLock` needs for one kind of lock. */
interface Kind<O, L> {
  acquireLock(options?: O): Promise<L>
  /** Releases a lock that the caller does not get. */
  rollBack(lock: L): Promise<void>
  /** The option that a target which is not an object stands for. */
  shorthand: string
  /** Checks the options. `key` is the same text for each name of one lock; `options` name it in any directory. */
  identify(options: O): Promise<{ key: string; options: O }>
  /** Throws if this number of locks cannot be held at once. */
  checkCount?(count: number): void
}

/** They are for all locks of a call together. */
const OF_CALL = ['timeout', 'signal', 'onWait']

export function createWithLock<O extends { timeout?: number | undefined }, L extends Releasable>(
  kind: Kind<O, L>,
) {
  return async function withLock<T>(
    fn: (held: never) => T | Promise<T>,
    target?: O | readonly unknown[],
    ...more: unknown[]
  ): Promise<T> {
    const call = fn as (held: L | L[]) => T | Promise<T>
    if (typeof fn !== 'function') wrongType('fn', 'of type function', `type ${typeof fn}`)
    if (Array.isArray(target)) {
      if (target.length === 0) wrongValue('The "targets" argument must not be empty')
      const locks = await acquireAll(kind, Array.from(target), more)
      return releaseAfter(locks.sorted, () => call(locks.named))
    }
    const lock = await kind.acquireLock(...([target, ...more] as [O]))
    return releaseAfter([lock], () => call(lock))
  }
}

/** Acquires locks in one order for all processes, so that no two wait for each other, within one timeout. */
async function acquireAll<O extends { timeout?: number | undefined }, L extends Releasable>(
  kind: Kind<O, L>,
  targets: unknown[],
  [common = {}, ...more]: unknown[],
): Promise<{ named: L[]; sorted: L[] }> {
  if (more.length > 0)
    wrongValue(`withLock takes a function, targets and options. Received ${more.length + 3}`)
  if (!isPlain(common)) wrongType('options', 'a plain object', typeof common)
  kind.checkCount?.(targets.length)
  const started = monotonic()
  const wanted = await Promise.all(
    targets.map(async (target, index) => {
      const asked = optionsOf(kind.shorthand, target, index, common)
      return { index, ...(await kind.identify(asked as O & { timeout?: number })) }
    }),
  )
  wanted.sort((one, other) => (one.key < other.key ? -1 : 1))
  for (const [at, { key }] of wanted.entries())
    if (key === wanted[at + 1]?.key) wrongValue(`The "targets" argument names one lock twice: ${key}`)
  const named: L[] = []
  const sorted: L[] = []
  try {
    for (const { index, options } of wanted) {
      // An option counts only as an own property.
      const timeout = Object.hasOwn(options, 'timeout') ? options.timeout : undefined
      // Not 0, by which a call waits for the creator of an empty file.
      const remaining = timeout && { timeout: Math.max(1, timeout - (monotonic() - started)) }
      const lock = await kind.acquireLock({ ...options, ...(remaining || {}) })
      named[index] = lock
      sorted.push(lock)
    }
  } catch (error) {
    return releaseAfter(
      sorted,
      () => Promise.reject(error),
      (lock) => releaseLateAcquire(kind.rollBack(lock).catch(warn)),
    )
  }
  return { named, sorted }
}

function optionsOf(shorthand: string, target: unknown, index: number, common: object): object {
  const name = `targets[${index}]`
  if (target === undefined) wrongType(name, 'a target', 'undefined')
  const own = isPlain(target) ? target : { [shorthand]: target }
  const misplaced = OF_CALL.find((option) => Object.hasOwn(own, option))
  if (misplaced !== undefined) wrongValue(`The "${name}.${misplaced}" option belongs to the last argument`)
  const given = Object.entries(own).filter(([, value]) => value !== undefined)
  return { ...common, ...Object.fromEntries(given) }
}

/** Releases the locks, the last one first, when `work` has settled. No release waits for another, as a disk may hang. */
async function releaseAfter<T, L extends Releasable>(
  locks: L[],
  work: () => T | Promise<T>,
  release: (lock: L) => Promise<void> = (lock) => lock.release(),
): Promise<T> {
  const failures: unknown[] = []
  let result: T | undefined
  try {
    result = await work()
  } catch (error) {
    failures.push(error)
  }
  for (const end of await NativePromise.allSettled(locks.toReversed().map(release)))
    if (end.status === 'rejected') failures.push(end.reason)
  if (failures.length === 0) return result as T
  // The caller gets the first failure; the others must not be lost.
  for (const error of failures.slice(1)) warn(error)
  throw failures[0]
}

function wrongType(name: string, expected: string, received: string): never {
  const message = `The "${name}" argument must be ${expected}. Received ${received}`
  throw argumentError(TypeError, 'ERR_INVALID_ARG_TYPE', message)
}
