import type { Stats } from 'node:fs'
import { dirname } from 'node:path'
import { getSystemErrorMap } from 'node:util'
import type { Holder, LockErrorCode } from '../index.js'
import { argumentError, LockError, withoutStack } from './shared/errors.js'
import { builtin, process } from './shared/globals.js'
import { fromWin32 } from './win32-errors.js'

const { accessSync, constants, lstatSync } = builtin(
  'node:fs',
  () => require('node:fs') as typeof import('node:fs'),
)

/** The value that the addon returns for a failed call; `src/node/errors.rs` makes it. */
type SystemFailure = [errno: number, syscall: string, path: string, text: string]
type LockFailure = [
  code: LockErrorCode | `ERR_${string}`,
  message: string,
  path: string,
  reason?: string | null,
  pid?: number | null,
  createdAt?: number | null,
  host?: string | null,
  thread?: number | null,
]

/** Makes the error of a failed call in this realm. */
export function errorOf(failure: unknown[]): Error {
  if (typeof failure[0] === 'number') return systemError(...(failure as SystemFailure))
  const [code, message, path, reason, pid, createdAt, host, thread] = failure as LockFailure
  if (isArgument(code)) return argumentError(TypeError, code, message)
  let holder: Holder | undefined
  if (pid != null && createdAt != null) {
    holder = { pid, createdAt }
    if (host != null) holder.host = host
    if (thread != null) holder.thread = thread
  }
  const recoverable = code === 'E_LOCK_CONTENTION'
  const about = { code, path, recoverable, holder, reason: reason ?? undefined }
  return recoverable ? withoutStack(message, about) : new LockError(message, about)
}

const isArgument = (code: string): code is `ERR_${string}` => code.startsWith('ERR_')

/** Makes a system error in the form of `node:fs`. */
function systemError(systemErrno: number, syscall: string, path: string, text: string): Error {
  const errors = getSystemErrorMap()
  const errno = process.platform === 'win32' ? fromWin32(systemErrno, errors) : systemErrno
  const [code, reason] = errors.get(-errno) ?? unmapped(errno, text)
  const denied =
    syscall === 'open' && (code === 'EACCES' || code === 'EPERM') ? explainDenial(path, code) : ''
  const message = `${code}: ${reason}, ${syscall} '${path}'${denied}`
  return Object.assign(new Error(message), { errno: -errno, code, syscall, path })
}

/** The likely cause of a denied open, and its fix. */
function explainDenial(path: string, code: string): string {
  const user = process.geteuid?.()
  if (user === undefined) return ''
  const file = statOf(path)
  const directory = dirname(path)
  // `open(2)` checks owners and modes with EACCES.
  if (code === 'EPERM')
    return file === undefined
      ? '; the directory may be immutable (chattr, chflags), or protected by a security policy'
      : '; the file may be immutable or append-only (chattr, chflags), or protected by a security policy'
  const canAcquire = file === undefined ? isAllowed(directory, W_OK | X_OK) : isAllowed(path, R_OK | W_OK)
  if (canAcquire && !isAllowed(directory, R_OK))
    return `; user ${user} may not read the directory, which a durable lock requires`
  if (file !== undefined && file.uid !== user)
    return `; the file belongs to user ${file.uid}, and this process is user ${user}: run it as that user; if no process uses the lock, you can also break it with force`
  if (file !== undefined)
    return (file.mode & 0o600) === 0o600
      ? ''
      : '; this user owns the file, but its mode denies access: run chmod u+rw on it'
  const owner = statOf(directory)?.uid
  return owner === undefined
    ? ''
    : `; the directory belongs to user ${owner}, and this process, user ${user}, may not create files in it`
}

const { R_OK, W_OK, X_OK } = constants

function isAllowed(path: string, mode: number): boolean {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}

function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path)
  } catch {
    return undefined
  }
}

/** The name of an error that Node.js does not name, such as EDQUOT. */
function unmapped(errno: number, text: string): [code: string, reason: string] {
  const reason = text.replace(/ \(os error \d+\)$/, '').toLowerCase()
  // The numbers in `constants` are the C library's, not those of Windows.
  if (process.platform === 'win32') return ['UNKNOWN', reason]
  // Loaded on demand: it costs more than this file, and few programs need it.
  const { constants } = builtin('node:os', () => require('node:os') as typeof import('node:os'))
  const named = Object.entries(constants.errno).find(([, number]) => number === errno)
  return [named?.[0] ?? `E${errno}`, reason]
}
