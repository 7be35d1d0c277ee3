import type { Holder, LockErrorCode, LockError as PublicLockError } from '../../index.js'
import { process } from './globals.js'

/** A mark on the errors of every copy of this package: a process may load several, in other realms or versions. */
const BRAND = Symbol.for('reconcile-lock.LockError')

export interface About {
  code: LockErrorCode
  path: string
  recoverable: boolean
  holder?: Holder | undefined
  reason?: string | undefined
}

export class LockError extends Error implements PublicLockError {
  // Declared only: to define a field and then to assign it is slow.
  declare readonly name: 'LockError'
  declare code: LockErrorCode
  declare path: string
  declare recoverable: boolean
  declare holder?: Holder
  declare reason?: string

  constructor(message: string, { code, path, recoverable, holder, reason }: About) {
    super(message)
    this.code = code
    this.path = path
    this.recoverable = recoverable
    if (holder !== undefined) this.holder = holder
    if (reason !== undefined) this.reason = reason
  }
}
Object.defineProperty(LockError.prototype, 'name', { value: 'LockError', configurable: true, writable: true })
Object.defineProperty(LockError.prototype, BRAND, { value: true })
Object.defineProperty(LockError, Symbol.hasInstance, {
  value(this: unknown, value: unknown): boolean {
    if (this !== LockError) return Function.prototype[Symbol.hasInstance].call(this, value)
    return typeof value === 'object' && value !== null && BRAND in value
  },
})

/** @param Class a constructor of this realm, as for Node's own errors */
export const argumentError = (
  Class: new (message: string) => Error,
  code: string,
  message: string,
): NodeJS.ErrnoException => Object.assign(new Class(message), { code })

/** Throws the error of an argument with a wrong value. */
export function wrongValue(message: string): never {
  throw argumentError(TypeError, 'ERR_INVALID_ARG_VALUE', message)
}

/** @param expected the range, such as `>= 0` */
export function outOfRange(name: string, expected: string, value: number): never {
  const message = `The value of "${name}" is out of range. It must be ${expected}. Received ${value}`
  throw argumentError(RangeError, 'ERR_OUT_OF_RANGE', message)
}

/** The message of a contention error, unless the call gives another one. */
export const MESSAGE = 'Another reconcile run is in progress'

export const contention = (message: string, about: Omit<About, 'code' | 'recoverable'>): LockError =>
  withoutStack(message, { ...about, code: 'E_LOCK_CONTENTION', recoverable: true })

/** The stack trace would cost as much as all system calls of a refusal, which is not a fault. */
export function withoutStack(message: string, about: About): LockError {
  const limit = Error.stackTraceLimit
  try {
    Error.stackTraceLimit = 0
  } catch {
    // The intrinsics are frozen.
    return new LockError(message, about)
  }
  try {
    return new LockError(message, about)
  } finally {
    Error.stackTraceLimit = limit
  }
}

/** Makes an error that a retry does not fix, unless `recoverable` is set. */
export function lockError(
  code: LockErrorCode,
  path: string,
  message: string,
  about: { holder?: Holder | undefined; reason?: string; cause?: unknown; recoverable?: boolean } = {},
): LockError {
  const { cause, ...rest } = about
  const error = new LockError(message, { code, path, recoverable: false, ...rest })
  // As Node.js has it on its errors: not enumerable.
  if (cause !== undefined)
    Object.defineProperty(error, 'cause', { value: cause, configurable: true, writable: true })
  return error
}

/** The error of a lock that was lost while it was held. */
export const lossError = (path: string, reason: string, cause?: unknown): LockError => {
  const message = `lost the lock ${path} while holding it: ${reason}; another process may have acquired it`
  return lockError('E_LOCK_LOST', path, message, { reason, cause })
}

/** Emits an error as a process warning. */
export function warn(error: unknown): void {
  try {
    process.emitWarning(error as Error)
  } catch {
    // Node.js refuses an error of another realm, such as that of Jest.
    const { name: type, message, code } = error as NodeJS.ErrnoException
    process.emitWarning(message, { type, ...(typeof code === 'string' && { code }) })
  }
}

export const isContention = (error: unknown): error is LockError =>
  error instanceof LockError && error.code === 'E_LOCK_CONTENTION'
