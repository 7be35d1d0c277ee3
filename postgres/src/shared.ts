// What the locks on files and those here have in common. These files of `lib/` load no addon.
import type { LockError as LockErrorType } from '../../index.js'
import type { PostgresHolder, PostgresTakenOver } from './types.js'

type About = ConstructorParameters<typeof LockErrorType>[1]

/** What the channels are told of a lock. */
interface Told {
  path: string
  holder: PostgresHolder
  takenOver?: PostgresTakenOver | undefined
}

interface Errors {
  LockError: typeof LockErrorType
  isContention(error: unknown): error is LockErrorType
  withoutStack<T>(make: () => T): T
}

interface Channels {
  acquired(lock: Told, waited: () => number): void
  contended(error: LockErrorType): void
  waiting(status: object): void
  ended(lock: Told, lost?: { reason?: string | undefined }): void
  watchWaits(): boolean
}

interface Abortable {
  abortable<T>(
    acquire: () => Promise<T>,
    signal: AbortSignal,
    call: { isAborted: boolean; abort(): void },
    rollBack: (lock: T) => Promise<unknown>,
  ): Promise<T>
}

interface WithLock {
  withLockOf<O, L extends { release(): Promise<void> }>(
    acquireLock: (options?: O) => Promise<L>,
  ): <T>(fn: (lock: L) => T | Promise<T>, options?: O) => Promise<T>
}

const errors: Errors = require('../../lib/errors.js')
export const channels: Channels = require('../../lib/channels.js')
export const { abortable }: Abortable = require('../../lib/abortable.js')
export const { withLockOf }: WithLock = require('../../lib/with-lock.js')
export const { isPlain }: { isPlain(value: unknown): value is object } = require('../../lib/plain.js')

/** See `LockError` of `reconcile-lock`: it is the same class. */
export const LockError: typeof LockErrorType = errors.LockError
export type LockError = LockErrorType
export const { isContention } = errors

/** Makes a contention error. */
export function contention(message: string, about: Omit<About, 'code' | 'recoverable'>): LockError {
  const make = () => new LockError(message, { ...about, code: 'E_LOCK_CONTENTION', recoverable: true })
  return errors.withoutStack(make)
}

/** Makes an error that, unless `recoverable` says so, trying again does not mend. */
export function lockError(
  code: LockErrorType['code'],
  path: string,
  message: string,
  about: { reason?: string; cause?: unknown; recoverable?: boolean } = {},
) {
  const { cause, ...rest } = about
  const error = new LockError(message, { code, path, recoverable: false, ...rest })
  return cause === undefined ? error : Object.assign(error, { cause })
}
