// Errors of the driver, the server and the system: each gets a code, and whether a retry can succeed.
import { types } from 'node:util'

/** Condition names of PostgreSQL: https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const SQLSTATE = {
  cannotConnect: '08001',
  connectionFailure: '08006',
  numericValueOutOfRange: '22003',
  uniqueViolation: '23505',
  noTransaction: '25P01',
  insufficientPrivilege: '42501',
  undefinedObject: '42704',
  undefinedTable: '42P01',
  lockNotAvailable: '55P03',
} as const

/** Failed connections, too many connections, and servers that stop or start. */
const TRANSIENT =
  /^(08|53|57P0[1235]|ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENETDOWN|EAI_AGAIN|ENOTFOUND|E_LOCK_STANDBY|E_LOCK_CONNECTIONS)/

export const codeOf = (error: unknown): string | undefined => {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : undefined
}

/** Whether the server ends the session after the error. It translates the severity, but not the code. */
export const endsSession = (error: unknown): boolean =>
  (error as { severity?: unknown }).severity === 'FATAL' || /^(57P0[1-5]|25P0[34])$/.test(codeOf(error) ?? '')

/** Of `connect` alone: the server is down and has no Unix socket, the queue of the socket is full, no port is free. */
const isFailedConnect = (error: unknown): boolean =>
  /^(ENOENT|EAGAIN|EADDRNOTAVAIL)$/.test(codeOf(error) ?? '') &&
  (error as NodeJS.ErrnoException).syscall === 'connect'

/** The errors of each address if Node.js has tried several. */
const addressErrors = (error: unknown): Error[] => {
  const { errors } = (error ?? {}) as Partial<AggregateError>
  return Array.isArray(errors) ? errors : []
}

/** Whether the same call can succeed later without a change to the program or the database. */
export const isTransient = (error: unknown): boolean =>
  TRANSIENT.test(codeOf(error) ?? '') || isFailedConnect(error) || addressErrors(error).some(isTransient)

/** Adds `recoverable` to an error, and a `code` if it has none, as most errors of the driver. */
export function coded(error: unknown, code: string): unknown {
  // In Jest, errors of the network are of another realm.
  if (!(error instanceof Error || types.isNativeError(error))) return error
  const about = error as Error & { code?: unknown; recoverable?: unknown }
  // Node.js gives a message to them alone.
  if (error.message === '')
    error.message = addressErrors(error)
      .map(({ message }) => message)
      .join(', ')
  about.code ??= code
  about.recoverable ??= isTransient(error)
  return error
}

/** The error if the other side does not answer. */
export function timedOut(what: string, milliseconds: number): Error {
  const error = new Error(`${what} within ${Math.round(milliseconds)} ms`)
  return Object.assign(error, { code: 'ETIMEDOUT', recoverable: true })
}
