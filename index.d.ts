/// <reference lib="esnext.disposable" />

/**
 * A process lock on a file.
 *
 * @module reconcile-lock
 */

/** Which lock, and what to say when it is held. */
export interface LockOptions {
  /** The directory of the lock file, as a path or a `file:` URL. Default: `process.cwd()` at the call. */
  cwd?: string | URL | undefined
  /**
   * The lock file, relative to `cwd` or absolute, or a `file:` URL. Default: `.xero-reconcile-lock.json`.
   */
  file?: string | URL | undefined
  /** The whole `message` of the contention error. Default: `Another reconcile run is in progress`. */
  message?: string | undefined
  /**
   * Whether processes of the legacy TypeScript lock may use this lock file. Default: `true`. With `false` a take-over
   * skips its pause of 5 ms. A legacy process that uses the file all the same can then remove a lock that was just
   * taken over; its holder gets `E_LOCK_LOST` when it releases.
   */
  legacy?: boolean | undefined
}

/** What {@link acquireLock} takes. */
export interface AcquireOptions extends LockOptions {
  /**
   * How long to wait for a holder to let go, in milliseconds. 0 (the default) refuses at once, `Infinity`
   * waits for ever.
   */
  timeout?: number | undefined
  /** Ends a wait: the promise rejects with `signal.reason`, and the lock is not held. */
  signal?: AbortSignal | undefined
  /**
   * Called when waiting begins, and at most once a second after that. If it throws, the wait ends with that
   * error.
   */
  onWait?: ((status: WaitStatus) => void) | undefined
}

/** What {@link AcquireOptions.onWait} is told. */
export interface WaitStatus {
  /** The absolute path of the lock file. */
  path: string
  /** Who holds the lock now, if its file says. */
  holder?: Holder
  /** What the holder does not tell, such as why another host's lock is not taken over. */
  reason?: string
  /** How long this call has been waiting, in milliseconds. */
  waited: number
}

/**
 * Which lock: the default one of a directory, as a path or a `file:` URL; that of options, of which `timeout`, `signal`
 * and `onWait` are ignored; or a lock that was acquired.
 */
export type LockTarget = string | URL | AcquireOptions | Lock

/** What {@link breakLock} takes. */
export interface BreakOptions extends AcquireOptions {
  /** Remove the lock even if somebody holds it. That holder's release then fails with `E_LOCK_LOST`. */
  force?: boolean | undefined
}

/** Who holds a lock, or left it behind. */
export interface Holder {
  /** The process. */
  pid: number
  /** When it acquired the lock, in milliseconds since the Unix epoch. */
  createdAt: number
  /** The host that it runs on. A lock of the older TypeScript tool names none. */
  host?: string
  /** The `threadId` of its worker thread, 0 for the main thread. A lock of the older tool names none. */
  thread?: number
}

/** What {@link inspectLock} found. */
export interface LockStatus {
  /** The absolute path of the lock file. */
  path: string
  /**
   * `free`: there is no lock file. `held`: somebody holds the lock, or that cannot be ruled out. `stale`:
   * there is a lock file and its holder is gone; the next {@link acquireLock} takes it over.
   */
  state: 'free' | 'held' | 'stale'
  /** Who holds the lock or left it behind, if the file says. */
  holder?: Holder
  /** One sentence for a person: who holds it, since when, on which host, or why it is stale. */
  reason: string
}

/** Whom a lock was taken over from. */
export interface TakenOver {
  /** Who left the lock behind, if the file said. */
  holder?: Holder
  /**
   * Why that run was judged gone, in one sentence: `process 4711 ended without releasing`, `the machine was
   * restarted`, `the file was not a lock record`.
   */
  reason: string
}

/**
 * A lock that this process holds until it is released or the process ends. Losing this object to the garbage
 * collector releases nothing. Its methods need no `this`: `work().finally(lock.release)` works.
 */
export interface Lock {
  /** The absolute path of the lock file. */
  readonly path: string
  /** This process, as the lock file says. */
  readonly holder: Holder
  /**
   * Set if the lock was taken over from a run that never released it. That run may have died half-way: check
   * what it was working on.
   */
  readonly takenOver?: TakenOver | undefined
  /** Whether the lock is still held and its file in its place. Changes nothing. */
  readonly isHeld: () => boolean
  /**
   * Releases the lock and removes its file. A second release is the first one while that is under way, and does
   * nothing after that.
   *
   * Rejects with a {@link LockError} `E_LOCK_LOST` if somebody removed or replaced the file meanwhile (the
   * other file stays), or with the system's error if the file cannot be removed. Either way this process
   * holds the lock no more.
   */
  readonly release: () => Promise<void>
  /** As {@link Lock.release}, before it returns. */
  readonly releaseSync: () => void
  /** What `JSON.stringify` prints of it. */
  toJSON(): Pick<Lock, 'path' | 'holder' | 'takenOver'>
  /** As {@link Lock.releaseSync}, for `using`. */
  [Symbol.dispose](): void
  /** As {@link Lock.release}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** What {@link LockError.code} can be; the last six are of locks on PostgreSQL. */
export type LockErrorCode =
  | 'E_LOCK_CONTENTION'
  | 'E_LOCK_DEADLOCK'
  | 'E_LOCK_SYMLINK'
  | 'E_LOCK_NOT_A_FILE'
  | 'E_LOCK_LOST'
  | 'E_LOCK_STALE'
  | 'E_LOCK_UNSUPPORTED'
  | 'E_LOCK_NATIVE'
  | 'E_LOCK_CONNECTIONS'
  | 'E_LOCK_POOLER'
  | 'E_LOCK_STANDBY'
  | 'E_LOCK_TABLE'
  | 'E_LOCK_COLLISION'
  | 'E_LOCK_DRIVER'

/**
 * Why a lock was not acquired, released or broken. Two copies of this package may be loaded: `instanceof LockError`
 * holds for the errors of either. By `code`:
 *
 * - `E_LOCK_CONTENTION`: somebody holds it; `message` is the configured one and nothing more.
 * - `E_LOCK_DEADLOCK`: a synchronous call would wait for a lock that its own thread holds.
 * - `E_LOCK_SYMLINK`: the path is a symbolic link.
 * - `E_LOCK_NOT_A_FILE`: the path is a directory, FIFO, socket, device, or a file with several hard links.
 * - `E_LOCK_LOST`: somebody removed or replaced the file while this process held the lock, or closed its descriptor.
 * - `E_LOCK_STALE`: the holder is gone, but this filesystem has no kernel locks, so that taking over is not
 *   safe; `message` says which call breaks it.
 * - `E_LOCK_UNSUPPORTED`: this operating system has no implementation, or the name of the current directory is not UTF-8.
 * - `E_LOCK_NATIVE`: thrown by `require` or `import`, not by a call: there is no native binary that works on this
 *   machine. `message` names the machine, the package that was looked for, why it was not there or not usable, and
 *   the command that builds one; `path` is the file that was looked for or refused, `cause` what the system said.
 *
 * Of locks on PostgreSQL, see `docs/postgres.md`: `E_LOCK_CONNECTIONS`, `E_LOCK_POOLER`, `E_LOCK_STANDBY`,
 * `E_LOCK_TABLE`, `E_LOCK_COLLISION`, `E_LOCK_DRIVER`.
 *
 * What the system refuses is no `LockError`: it arrives as Node's own errors do, with `code` (`EACCES`,
 * `ENOENT`, `ENOSPC`, …), `errno`, `syscall` and `path`. Wrong arguments are a `TypeError` or `RangeError`
 * with `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` or `ERR_OUT_OF_RANGE`, before anything is touched.
 *
 * A fault of this package itself is an `Error` with `E_LOCK_INTERNAL`: please report its `message`. It ends one
 * call and not the process, and the locks that were held stay held.
 */
export class LockError extends Error {
  constructor(
    message: string,
    about: { code: LockErrorCode; path: string; recoverable: boolean; holder?: Holder; reason?: string },
  )
  /** As errors of Node.js name their class. */
  readonly name: 'LockError'
  /** One of the codes above. */
  code: LockErrorCode
  /** The absolute path of the lock file; for `E_LOCK_NATIVE` that of the native binary. */
  path: string
  /** Whether the same call can succeed later without anybody doing anything. */
  recoverable: boolean
  /** Who holds the lock, if its file says. */
  holder?: Holder
  /** What `message` and `holder` do not tell: why another host's lock is not taken over, what became of a lost one. */
  reason?: string
}

/**
 * Acquires the lock of a directory, or rejects. It does not wait for a holder unless `timeout` says so. Not
 * reentrant: a process that asks twice is refused too.
 *
 * What a killed run left behind is taken over at once; {@link Lock.takenOver} tells. Only an empty file less
 * than 2 s old, whose creator may be about to lock it, is waited for.
 *
 * @throws {LockError} `E_LOCK_CONTENTION`, `E_LOCK_SYMLINK`, `E_LOCK_NOT_A_FILE`, `E_LOCK_STALE`,
 *   `E_LOCK_UNSUPPORTED`; otherwise what the system refuses, or a wrong argument: see {@link LockError}.
 * @example
 * const lock = await acquireLock()
 * try {
 *   if (lock.takenOver) console.warn(`The run before this one did not finish: ${lock.takenOver.reason}`)
 *   await postPayments()
 * } finally {
 *   await lock.release()
 * }
 */
export function acquireLock(target?: string | URL | AcquireOptions): Promise<Lock>

/**
 * As {@link acquireLock}, before it returns. With a `timeout` the thread sleeps; a `signal` that was aborted
 * before the call is thrown, a later one cannot be noticed. A lock that an asynchronous call of this thread has
 * acquired, and was not given yet, goes to this call, and that one waits on.
 *
 * @throws {LockError} Also `E_LOCK_DEADLOCK`, at once, if it would wait for a lock that this thread holds.
 */
export function acquireLockSync(target?: string | URL | AcquireOptions): Lock

/**
 * Releases the lock if this thread of this process holds it, and does nothing otherwise: it never removes
 * another's file.
 *
 * @throws {LockError} `E_LOCK_LOST` as {@link Lock.release}.
 */
export function releaseLock(target?: LockTarget): Promise<void>

/** As {@link releaseLock}, before it returns. */
export function releaseLockSync(target?: LockTarget): void

/**
 * Runs `fn` while holding the lock and gives its result. The lock is released whatever `fn` does. If `fn`
 * fails, its error is the one that counts; a failing release is then a process warning.
 *
 * @throws As {@link acquireLock}, `fn` and {@link Lock.release}.
 */
export function withLock<T>(
  fn: (lock: Lock) => T | Promise<T>,
  target?: string | URL | AcquireOptions,
): Promise<T>

/**
 * Says whether the lock is held, and by whom. It changes nothing and disturbs nobody; by the time it answers
 * the answer may be old, so use it to tell people, not to decide.
 *
 * @throws {LockError} `E_LOCK_SYMLINK`, `E_LOCK_NOT_A_FILE`; otherwise what the system refuses.
 */
export function inspectLock(target?: LockTarget): Promise<LockStatus>

/** As {@link inspectLock}, before it returns. */
export function inspectLockSync(target?: LockTarget): LockStatus

/**
 * Removes a stale lock; `true` if a file was removed. {@link acquireLock} needs no such help: this is for
 * people who clean up, and for the locks that it refuses with `E_LOCK_STALE`.
 *
 * With `force` a held lock goes too. Its holder is not stopped and learns of it by `E_LOCK_LOST` when it
 * releases; and if the lock changes hands in that very moment, the new holder's file is the one removed.
 *
 * @throws {LockError} `E_LOCK_CONTENTION` if somebody holds it and `force` is off; otherwise as
 *   {@link acquireLock}.
 */
export function breakLock(target?: LockTarget | BreakOptions): Promise<boolean>

/** The absolute path of a lock file. Touches nothing. */
export function resolveLockPath(target?: LockTarget): string

/**
 * What the package publishes on `node:diagnostics_channel`, by the channel's name. Messages are made only while
 * somebody listens. `NODE_DEBUG=reconcile-lock` prints them all on standard error.
 *
 * @example
 * import { subscribe } from 'node:diagnostics_channel'
 * import type { LockChannels } from 'reconcile-lock'
 *
 * subscribe('reconcile-lock:takenover', (message) => {
 *   const { path, reason } = message as LockChannels['reconcile-lock:takenover']
 *   alert(`${path} was taken over: ${reason}`)
 * })
 */
export interface LockChannels {
  /** A lock was acquired. */
  'reconcile-lock:acquired': AcquiredMessage
  /** A lock was found held: the call is refused, or begins to wait. */
  'reconcile-lock:contended': ContendedMessage
  /** A call waits for a holder: when that begins, and at most once a second after that. */
  'reconcile-lock:waiting': WaitingMessage
  /** A lock was acquired that a run before this one never released. `acquired` follows. */
  'reconcile-lock:takenover': TakenOverMessage
  /** A lock was released, by a call or by the exit of the process. */
  'reconcile-lock:released': ReleasedMessage
  /** A release found that somebody had removed or replaced the file. */
  'reconcile-lock:lost': LostMessage
}

/** What every message of {@link LockChannels} tells. */
export interface LockMessage {
  /** The absolute path of the lock file. */
  path: string
  /** When it happened, in milliseconds since the Unix epoch. */
  at: number
}

/** See {@link LockChannels}. */
export interface WaitingMessage extends LockMessage, WaitStatus {}

/** See {@link LockChannels}. */
export interface AcquiredMessage extends LockMessage {
  /** This process, as the lock file says. */
  holder: Holder
  /** How long the call waited for a holder, in milliseconds. */
  waited: number
  /** Set if a run before this one never released the lock. */
  takenOver?: TakenOver
}

/** See {@link LockChannels}. */
export interface ContendedMessage extends LockMessage {
  /** Who holds the lock, if its file says. */
  holder?: Holder
  /** What the holder does not tell. */
  reason?: string
}

/** See {@link LockChannels}. */
export interface TakenOverMessage extends LockMessage {
  /** This process, as the lock file says. */
  holder: Holder
  /** Who left the lock behind, if the file said. */
  from?: Holder
  /** Why that run was judged gone. */
  reason: string
}

/** See {@link LockChannels}. */
export interface ReleasedMessage extends LockMessage {
  /** This process, as the lock file said. */
  holder: Holder
  /** How long the lock was held, in milliseconds. */
  held: number
}

/** See {@link LockChannels}. */
export interface LostMessage extends ReleasedMessage {
  /** What was found in place of the file. */
  reason: string
}
