/** The exit codes, as in sysexits.h. */
export const exitCode = { ok: 0, failure: 1, usage: 64, data: 65, lost: 74, busy: 75 } as const

/** The command line is wrong. */
export class UsageError extends Error {}

/** A file is invalid, so nothing was posted. */
export class DataError extends Error {}

/** The `code` of a system error or of a `LockError`. */
export function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}
