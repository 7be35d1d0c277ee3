import { type InspectOptionsStylized, inspect } from 'node:util'
import type { JsLock } from '../binding.js'
import type { Holder, Lock as PublicLock, TakenOver } from '../index.js'
import { type HeldLock, held } from './held-locks.js'
import { native, resultOf, settled } from './native.js'
import { targetOptions } from './options.js'
import { NativePromise } from './shared/globals.js'
import { DESCRIPTOR } from './shared/inherit.js'

let identity: Holder | undefined

/**
 * Refers to an entry in the table of the addon: garbage collection of this object does not release the lock.
 *
 * Its methods are getters that return bound functions, because programs pass `lock.release` as a callback.
 */
class Lock implements PublicLock {
  readonly #id: number
  readonly #path: string
  readonly #createdAt: number
  readonly #takenOver: TakenOver | undefined
  #release: (() => Promise<void>) | undefined
  /** The pending release. */
  #released: Promise<void> | undefined
  #releaseSync: (() => void) | undefined
  #isHeld: (() => boolean) | undefined

  constructor({ id, path, createdAt, takenOver }: JsLock) {
    this.#id = id
    this.#path = path
    this.#createdAt = createdAt
    this.#takenOver = takenOver ? withoutNulls(takenOver) : undefined
    held.track(id, this)
  }

  get path() {
    return this.#path
  }

  get holder() {
    identity ??= withoutNulls<Holder>(native.ownHolder())
    return { ...identity, createdAt: this.#createdAt }
  }

  get takenOver() {
    return this.#takenOver
  }

  get signal() {
    return held.watch(this.#id, this)
  }

  get isHeld() {
    this.#isHeld ??= () => native.isHeld(this.#id)
    return this.#isHeld
  }

  get release() {
    this.#release ??= () => {
      this.#released ??= this.#end()
      return this.#released
    }
    return this.#release
  }

  async #end() {
    held.releasing.add(this)
    try {
      await settled(native.releaseById(this.#id))
      held.untrack(this.#id)
    } catch (error) {
      held.untrack(this.#id, error)
      throw error
    } finally {
      held.releasing.delete(this)
      this.#released = undefined
    }
  }

  get releaseSync() {
    this.#releaseSync ??= () => {
      try {
        const isReleased = resultOf(native.releaseByIdSync(this.#id))
        // A pending release finds out how it ends.
        if (isReleased || !this.#released) held.untrack(this.#id)
      } catch (error) {
        held.untrack(this.#id, error)
        throw error
      }
    }
    return this.#releaseSync
  }

  /** Rolls back an acquire whose call is rejected. */
  static async rollBack(lock: PublicLock) {
    const id = (lock as Lock).#id
    try {
      await settled(native.rollBack(id))
      held.untrack(id)
    } catch (error) {
      held.untrack(id, error)
      throw error
    }
  }

  get [held.BRAND]() {
    return true
  }

  /** `undefined` if the lock was released, or if the system has no such descriptor. */
  [DESCRIPTOR]() {
    return native.descriptorOf(this.#id) ?? undefined
  }

  toJSON() {
    const { path, holder, takenOver } = this
    return { path, holder, ...(takenOver && { takenOver }) }
  }

  [inspect.custom](_depth: number, options: InspectOptionsStylized) {
    return `Lock ${inspect(this.toJSON(), options)}`
  }

  [Symbol.dispose]() {
    this.releaseSync()
  }

  [Symbol.asyncDispose]() {
    return this.release()
  }
}

/** Removes the `null` values of the addon: the types of this package have optional properties. */
function withoutNulls<T>(value: object): T {
  const entries = Object.entries(value).flatMap(([key, each]) => {
    if (each === null) return []
    return [[key, typeof each === 'object' ? withoutNulls(each) : each]]
  })
  return Object.fromEntries(entries) as T
}

function idOfFailed(error: unknown): number | undefined {
  const path = (error as { path?: unknown } | undefined)?.path
  return typeof path === 'string' ? held.findIdByPath(path) : undefined
}

/** A lock as the only argument is released itself, even if its path names another file now. */
const lockIn = ([first, ...more]: unknown[]): HeldLock | undefined =>
  held.isLock(first) && more.length === 0 ? first : undefined

/** Whether the lock at a path is not the program's yet. */
const isReturning = (cwd: string | undefined, file: string | undefined): boolean =>
  held.returning.size > 0 && held.returning.has(resultOf(native.findHeld(cwd, file)) ?? -1)

/** The lock at a path whose release is under way. */
function releasingAt(cwd: string | undefined, file: string | undefined): HeldLock | undefined {
  if (held.releasing.size === 0) return undefined
  const path = resultOf(native.resolvePath(cwd, file))
  return [...held.releasing].find((lock) => lock.path === path)
}

async function releaseLock(...args: unknown[]): Promise<void> {
  const lock = lockIn(args)
  if (lock) return lock.release()
  const { cwd, file } = targetOptions('releaseLock', args)
  const known = held.get(resultOf(native.findHeld(cwd, file)))
  if (known) return known.release()
  if (isReturning(cwd, file)) return
  // A lock of the same file, by another name of its directory, can be held since a release has begun.
  await NativePromise.all([releasingAt(cwd, file)?.release(), releaseAt(cwd, file)])
}

async function releaseAt(cwd: string | undefined, file: string | undefined): Promise<void> {
  try {
    held.untrack((await settled(native.release(cwd, file))) ?? undefined)
  } catch (error) {
    held.untrack(idOfFailed(error), error)
    throw error
  }
}

function releaseLockSync(...args: unknown[]): void {
  const lock = lockIn(args)
  if (lock) {
    lock.releaseSync()
    return
  }
  const { cwd, file } = targetOptions('releaseLockSync', args)
  if (isReturning(cwd, file)) return
  try {
    held.untrack(resultOf(native.releaseSync(cwd, file)) ?? undefined)
  } catch (error) {
    held.untrack(idOfFailed(error), error)
    throw error
  }
}

export { Lock, releaseLock, releaseLockSync, withoutNulls }
