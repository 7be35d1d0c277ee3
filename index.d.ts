/// <reference lib="esnext.disposable" />

/**
 * A process lock on a file.
 *
 * @module reconcile-lock
 */

/** The lock file, the message of its contention error, and how to acquire it. */
export interface LockOptions {
  /** The directory of the lock file, as a path or a `file:` URL. Default: `process.cwd()` at the call. */
  cwd?: string | URL | undefined
  /**
   * The lock file, relative to `cwd` or absolute, or a `file:` URL. Default: `.xero-reconcile-lock.json`.
   */
  file?: string | URL | undefined
  /** The complete `message` of the contention error. Default: `Another reconcile run is in progress`. */
  message?: string | undefined
  /**
   * Whether processes of a legacy lock may use this lock file: one that writes its pid into the file as JSON and takes
   * no kernel lock. Default: `true`. With `false` a take-over skips its pause of 5 ms. If a legacy process uses the
   * file despite that, it can remove a lock that was just taken over. The holder then gets `E_LOCK_LOST` when it
   * releases.
   */
  legacy?: boolean | undefined
  /**
   * The permission bits of the lock file, whatever the umask: from `0o600`, the default, to `0o666`, without execute
   * bits. With `0o660` the users of its group can acquire, inspect, take over and release the lock, with `0o666` all users
   * can. The caller trusts them: a lock file of another user is accepted in a directory with the sticky bit, such as
   * `/tmp`, too. All calls should give the same mode. Windows has no modes: another one than the default is refused with
   * `E_LOCK_UNSUPPORTED`.
   */
  mode?: number | undefined
  /**
   * Whether an acquire syncs the lock file, then its directory, to the disk (`fdatasync`, `fsync`) before it returns.
   * Then {@link Lock.takenOver} of the next process names this one after a power failure, on a local filesystem with a
   * disk. Default: `false`: a power failure within about 30 s can leave no record. It needs permission to read the
   * directory. On Windows only the file is synced. If a call fails, the acquire is rolled back and rejects with the error
   * of the system, such as `EIO`. Its `syscall` is `fdatasync`, `open` or `fsync`, and its `path` is the lock file.
   * Calls that do not acquire ignore this option.
   */
  durable?: boolean | undefined
}

/** Options of {@link acquireLock}. */
export interface AcquireOptions extends LockOptions {
  /**
   * Acquires in shared mode: any number of calls can hold the lock in shared mode at once, but none while a call without
   * `shared` holds it. Default: `false`. A call without `shared` that waits for the readers refuses new ones. On a local
   * filesystem of Linux calls that wait are served in the order of their arrival, in both modes. An upgrade in place is
   * refused: release the lock first. The readers share the empty file `PATH.readers`. The default file name needs
   * `legacy: false` too, because a legacy process does not read that file. Otherwise, and on network filesystems or
   * those without kernel locks, the call is refused with `E_LOCK_UNSUPPORTED`. `slots` and `durable` do not go with it.
   */
  shared?: boolean | undefined
  /**
   * How many processes or calls can hold the lock at once: an integer from 1, the default, to 1000. Each slot is a lock
   * of its own: the first one is the lock file, the others are the files `PATH.slot1`, `PATH.slot2` and so on beside it.
   * The call acquires the first slot that is free, and `lock.path` names its file. All calls should use the same number:
   * a call with a larger one uses more slots, and a call without `slots` uses the first one alone.
   */
  slots?: number | undefined
  /**
   * How long to wait for the holder to release the lock, in milliseconds. 0, the default, does not wait for a holder.
   * `Infinity` waits without a deadline.
   */
  timeout?: number | undefined
  /**
   * Cancels a wait: the promise rejects with `signal.reason`, within 25 ms. An acquire that completes after that is
   * rolled back.
   */
  signal?: AbortSignal | undefined
  /**
   * Called when the wait begins, and at most once a second after that. If it throws, the wait ends and the call rejects
   * with that error.
   */
  onWait?: ((status: WaitStatus) => void) | undefined
}

/** Options of one lock of several. */
export type LockTargetOptions = Omit<AcquireOptions, 'timeout' | 'signal' | 'onWait'>

/** The argument of {@link AcquireOptions.onWait}. */
export interface WaitStatus {
  /** The absolute path of the lock file. */
  path: string
  /** The present holder, if the lock file has a readable record. */
  holder?: Holder
  /**
   * A fact that `holder` does not contain, such as why a lock of another host is not taken over, or that the holder waits
   * for this process.
   */
  reason?: string
  /** How long this call has been waiting, in milliseconds. */
  waited: number
}

/**
 * Names a lock: by a directory (a path or a `file:` URL) for its default lock file; by options, of which those that only
 * an acquire uses are ignored; or by an acquired lock.
 */
export type LockTarget = string | URL | AcquireOptions | Lock

/** Options of {@link breakLock}. */
export interface BreakOptions extends AcquireOptions {
  /** Removes the lock even if a process holds it. The release of that holder then fails with `E_LOCK_LOST`. */
  force?: boolean | undefined
}

/** The process that holds a lock, or the last one of a stale lock. */
export interface Holder {
  /** The process id. */
  pid: number
  /** When the process acquired the lock, in milliseconds since the Unix epoch. */
  createdAt: number
  /** The name of the host that the process runs on. Missing for a legacy lock. */
  host?: string
  /** The `threadId` of the worker thread, 0 for the main thread. Missing for a legacy lock. */
  thread?: number
}

/**
 * The process of a holder, read from the system during the call. It is not written to the lock file, and not part of
 * errors and of messages on {@link LockChannels}. macOS and Windows show it to the user of the process and to
 * administrators only.
 */
export interface HolderProcess {
  /**
   * The arguments of the process, joined by spaces, up to 4096 characters. It can contain any character, and
   * passwords that were given as arguments. On macOS it ends before the first argument of the form `NAME=value`.
   */
  command?: string
  /**
   * The name of the effective user, or its number if the system has no name for it. macOS and Windows can ask a directory
   * service on the network for the name.
   */
  user?: string
}

/**
 * The result of {@link inspectLock}. `command` and `user` are missing unless the record of the lock file proves that the
 * process is the holder: it names this kernel, this pid namespace and the start time of the process.
 */
export interface LockStatus extends HolderProcess {
  /** The absolute path of the lock file. */
  path: string
  /**
   * `free`: there is no lock file, or one whose lock was released. `held`: a process holds the lock, or this host
   * cannot exclude that. `stale`: there is a lock file, and its holder has ended. {@link acquireLock} takes it over if
   * this process may write the file and its filesystem has kernel locks.
   */
  state: 'free' | 'held' | 'stale'
  /** The holder, or the last one of a stale lock, if the lock file has a readable record. */
  holder?: Holder
  /** One sentence for people: the holder, its host and since when it holds the lock, or why the lock is stale. */
  reason: string
  /**
   * The processes that hold the lock in {@link AcquireOptions.shared} mode, as far as the system lists them: Linux does,
   * for processes that it shows to this one. Missing if there are none. With a `holder`, that process waits for them.
   */
  readers?: Reader[]
}

/**
 * A process that holds a lock in shared mode, as the system lists it. `command` and `user` are those of the process that
 * has this pid now: if the reader has ended and its child keeps the lock, that can be another process.
 */
export interface Reader extends HolderProcess {
  /** The process id. */
  pid: number
}

/** The previous holder of a lock that was taken over. */
export interface TakenOver {
  /** The previous holder, if the lock file had a readable record. */
  holder?: Holder
  /** Why the lock was stale, in one sentence, such as `process 4711 ended without releasing`. */
  reason: string
}

/**
 * A lock that is held until it is released, or the process or worker thread that acquired it ends. Garbage collection
 * of this object does not release it. In {@link AcquireOptions.shared} mode its file is `PATH.readers`, which the last
 * reader removes, and no holder is recorded. Its methods do not need `this`: `work().finally(lock.release)` works.
 */
export interface Lock {
  /** The absolute path of the lock file. */
  readonly path: string
  /** This process, as recorded in the lock file. */
  readonly holder: Holder
  /**
   * Set if the lock was taken over: the previous holder did not release it. That process may have stopped in the middle
   * of its work, so check what it did. After a power failure it can be missing, or name no holder, unless that process
   * acquired with {@link LockOptions.durable}. A lock in shared mode leaves the stale lock file, so the next call
   * without `shared` reports it too.
   */
  readonly takenOver?: TakenOver | undefined
  /**
   * Whether the path still names the lock file of this process, and its descriptor is open. It only reads. On a
   * network filesystem it does not report a kernel lock that the server has dropped, and on NFS a change by another
   * client up to 60 s late.
   */
  readonly isHeld: () => boolean
  /**
   * Aborted with `E_LOCK_LOST` when the lock is lost before its release: its path names another file or none, or other
   * code of this process has closed its descriptor. On a local filesystem of Linux a change of the file is detected
   * within a few milliseconds. A moved directory, a closed descriptor, and each loss on another system are detected within
   * 250 ms, a change by another client of NFS within 60 s. It begins to watch when it is first read, and does not keep the
   * process alive. Reading it throws a system error such as `EAGAIN` if no thread can be started; the next read tries again.
   */
  readonly signal: AbortSignal
  /**
   * Releases the lock and removes its file. A second call returns the promise of the first one while that is pending,
   * and does nothing after that.
   *
   * Rejects with a {@link LockError} `E_LOCK_LOST` if the file was removed or replaced while the lock was held, or if its
   * descriptor was closed. A file that replaced it stays. If a mount point or missing permission keeps the call from
   * removing the file, it marks the file as released, and succeeds. If it cannot write the mark, or on another error of
   * the system, it rejects with that error. After either error this process no longer holds the lock. After the second
   * one others can still be refused until this process ends or acquires the lock again.
   */
  readonly release: () => Promise<void>
  /** {@link Lock.release} as a synchronous call. */
  readonly releaseSync: () => void
  /** Returns the plain data that `JSON.stringify` prints. */
  toJSON(): Pick<Lock, 'path' | 'holder' | 'takenOver'>
  /** {@link Lock.releaseSync}, for `using`. */
  [Symbol.dispose](): void
  /** {@link Lock.release}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** The values of {@link LockError.code}. The last six belong to locks on PostgreSQL. */
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
 * The error of a call that could not acquire, release, inspect or break a lock. `instanceof LockError` also holds for
 * the errors of another copy of this package in the process. The codes:
 *
 * - `E_LOCK_CONTENTION`: another process or call holds the lock. `message` is the configured one and nothing more.
 * - `E_LOCK_DEADLOCK`: a synchronous call would wait for a lock that its own thread holds.
 * - `E_LOCK_SYMLINK`: the path is a symbolic link.
 * - `E_LOCK_NOT_A_FILE`: the path is a directory, FIFO, socket or device, or a file that is not a lock file; in a
 *   directory with the sticky bit also a file of another user.
 * - `E_LOCK_LOST`: the file was removed or replaced while this process held the lock, or its descriptor was closed.
 * - `E_LOCK_STALE`: the lock is stale, but its filesystem has no kernel locks, so taking it over is not safe. `message`
 *   says what to check before you break it.
 * - `E_LOCK_UNSUPPORTED`: this operating system has no implementation, the name of the current directory is not UTF-8,
 *   {@link AcquireOptions.shared} is not possible at this path, or {@link AcquireOptions.mode} on Windows.
 * - `E_LOCK_NATIVE`: `require` or `import` throws it, not a call: there is no native binary that works on this machine.
 *   `message` gives the cause and its remedy, `path` the file that was tried, and `cause` the system's error.
 *
 * https://github.com/reconcile-lock/reconcile-lock/blob/main/docs/errors.md describes the codes of locks on
 * PostgreSQL: `E_LOCK_CONNECTIONS`, `E_LOCK_POOLER`, `E_LOCK_STANDBY`, `E_LOCK_TABLE`, `E_LOCK_COLLISION`,
 * `E_LOCK_DRIVER`.
 *
 * A system error is not a `LockError`. It has the form of Node's own errors, with `code` (`EACCES`, `ENOENT`, `ENOSPC`,
 * …), `errno`, `syscall` and `path`. An invalid argument is a `TypeError` or `RangeError` with `ERR_INVALID_ARG_TYPE`,
 * `ERR_INVALID_ARG_VALUE` or `ERR_OUT_OF_RANGE`, thrown before the filesystem is touched. For a URL that names no file it
 * is `ERR_INVALID_URL_SCHEME`, `ERR_INVALID_FILE_URL_HOST` or `ERR_INVALID_FILE_URL_PATH`.
 *
 * A defect of this package is an `Error` with `E_LOCK_INTERNAL`. Please report its `message`. It ends one call, not the
 * process, and the locks that the process holds stay held.
 */
export class LockError extends Error {
  constructor(
    message: string,
    about: {
      code: LockErrorCode
      path: string
      recoverable: boolean
      holder?: Holder | undefined
      reason?: string | undefined
    },
  )
  /** The name of the class. */
  readonly name: 'LockError'
  /** One of the codes above. */
  code: LockErrorCode
  /** The absolute path of the lock file, or for `E_LOCK_NATIVE` of the native binary; the URL of a lock on PostgreSQL. */
  path: string
  /** Whether the same call can succeed later. `true` for `E_LOCK_CONTENTION`, also for a lock that only a person ends. */
  recoverable: boolean
  /** The holder, if the lock file has a readable record. */
  holder?: Holder
  /** A fact that `message` and `holder` do not contain, such as what replaced a lost lock file. */
  reason?: string
}

/**
 * Acquires a lock, or rejects if another process or call holds it. With {@link AcquireOptions.timeout} it waits for the
 * holder. The lock is not reentrant: a second acquire of the same process is refused too.
 *
 * A stale lock is taken over, and {@link Lock.takenOver} describes it. An empty file less than 2 s old belongs to its
 * creator, so the call waits until the file has a record or is 2 s old, or until a `timeout` that is not 0.
 *
 * @throws {LockError} `E_LOCK_CONTENTION`, `E_LOCK_SYMLINK`, `E_LOCK_NOT_A_FILE`, `E_LOCK_STALE`,
 *   `E_LOCK_UNSUPPORTED`. System errors and invalid arguments: see {@link LockError}.
 * @example
 * const lock = await acquireLock()
 * try {
 *   if (lock.takenOver) console.warn(`The previous process did not finish: ${lock.takenOver.reason}`)
 *   await postPayments()
 * } finally {
 *   await lock.release()
 * }
 */
export function acquireLock(target?: string | URL | AcquireOptions): Promise<Lock>

/**
 * {@link acquireLock} as a synchronous call. With a `timeout` the thread sleeps. The reason of a `signal` that is
 * already aborted is thrown. During the call only `onWait` and subscribers of {@link LockChannels} can abort it.
 *
 * If an asynchronous call of this thread has acquired the lock and its promise is not settled yet, a call with a
 * `timeout` gets that lock. The asynchronous call then attempts again, within its own `timeout`.
 *
 * @throws {LockError} The codes of {@link acquireLock}, and `E_LOCK_DEADLOCK` if a call with a `timeout` would wait for a
 *   lock of its own thread.
 */
export function acquireLockSync(target?: string | URL | AcquireOptions): Lock

/**
 * Releases the lock if this thread holds it. Otherwise it does nothing: it does not remove the lock of another thread
 * or process.
 *
 * @throws {LockError} `E_LOCK_LOST`, as {@link Lock.release} does.
 */
export function releaseLock(target?: LockTarget): Promise<void>

/** {@link releaseLock} as a synchronous call. */
export function releaseLockSync(target?: LockTarget): void

/**
 * Runs `fn` while it holds the lock, and resolves to the result of `fn`. It releases the lock when `fn` has returned
 * or thrown. If `fn` and the release both fail, the promise rejects with the error of `fn`, and the other one is
 * emitted as a process warning.
 *
 * @throws The errors of {@link acquireLock}, `fn` and {@link Lock.release}.
 */
export function withLock<T>(
  fn: (lock: Lock) => T | Promise<T>,
  target?: string | URL | AcquireOptions,
): Promise<T>

/**
 * Runs `fn` while it holds several locks, which it gets in the order of `targets`. The call acquires them in another
 * order, which is the same for all calls, so that two of them cannot wait for each other. If it does not acquire one, it
 * rolls back the others and rejects.
 *
 * @param targets As for one lock, but `timeout`, `signal` and `onWait` belong to `options`. Two targets must not name
 *   one lock.
 * @param options For all locks; those of a target take precedence. `timeout` is for all of them together.
 * @throws The errors of {@link acquireLock}, `fn` and {@link Lock.release}.
 */
export function withLock<T, const Targets extends readonly (string | URL | LockTargetOptions)[]>(
  fn: (locks: { -readonly [Index in keyof Targets]: Lock }) => T | Promise<T>,
  targets: Targets,
  options?: AcquireOptions,
): Promise<T>

/**
 * Returns the state of the lock and its holder. It does not change them. The state can change before the call returns, so
 * show it to people and do not decide by it.
 *
 * @throws {LockError} `E_LOCK_SYMLINK`, `E_LOCK_NOT_A_FILE`, `E_LOCK_UNSUPPORTED`. System errors: see {@link LockError}.
 */
export function inspectLock(target?: LockTarget): Promise<LockStatus>

/** {@link inspectLock} as a synchronous call. */
export function inspectLockSync(target?: LockTarget): LockStatus

/**
 * Removes a stale lock, and resolves to whether there was one. Without `force` a file that cannot be removed, such as a
 * mount point, is marked as released instead. {@link acquireLock} takes over stale locks itself, so this is for clean-up
 * by people and for locks that are refused with `E_LOCK_STALE`.
 *
 * With `force` it removes a held lock too, and a file at the path that is not a lock file. It does not stop the holder,
 * whose release then fails with `E_LOCK_LOST`. If the lock changes its holder during the call, the file of the new holder
 * may be the one that is removed.
 *
 * @throws {LockError} `E_LOCK_CONTENTION` if a process holds the lock and `force` is not set; otherwise the errors of
 *   {@link acquireLock} except `E_LOCK_STALE`.
 */
export function breakLock(target?: LockTarget | BreakOptions): Promise<boolean>

/** Returns the absolute path of a lock file. It does not touch the filesystem. */
export function resolveLockPath(target?: LockTarget): string

/**
 * The messages on `node:diagnostics_channel`, by the name of their channel. They are created only for a channel that
 * has a subscriber. `NODE_DEBUG=reconcile-lock` prints all of them on standard error.
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
  /** A call found the lock held: it is refused, or begins to wait. Published once for each call. */
  'reconcile-lock:contended': ContendedMessage
  /** A call waits for the holder. Published when the wait begins, and at most once a second after that. */
  'reconcile-lock:waiting': WaitingMessage
  /** A lock was acquired whose {@link Lock.takenOver} is set: a reader reports a stale lock too. `acquired` follows. */
  'reconcile-lock:takenover': TakenOverMessage
  /**
   * A lock was released, by a call or by the exit of the process. On PostgreSQL `process.exit()` and an uncaught error
   * end the session instead, without a message.
   */
  'reconcile-lock:released': ReleasedMessage
  /**
   * A held lock was found lost: as {@link Lock.signal} reports it if that was read, or if this channel had a subscriber
   * when the lock was acquired; otherwise by its release.
   */
  'reconcile-lock:lost': LostMessage
}

/** The part that all messages of {@link LockChannels} have. */
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
  /** This process, as recorded in the lock file. */
  holder: Holder
  /** How long the call waited for the holder, in milliseconds. */
  waited: number
  /** Set if the lock was taken over. */
  takenOver?: TakenOver
}

/** See {@link LockChannels}. */
export interface ContendedMessage extends LockMessage {
  /** The holder, if the lock file has a readable record. */
  holder?: Holder
  /** A fact that `holder` does not contain. */
  reason?: string
}

/** See {@link LockChannels}. */
export interface TakenOverMessage extends LockMessage {
  /** This process, as recorded in the lock file. */
  holder: Holder
  /** The previous holder, if the lock file had a readable record. */
  from?: Holder
  /** Why the lock was stale. */
  reason: string
}

/** See {@link LockChannels}. */
export interface ReleasedMessage extends LockMessage {
  /** This process, as it was recorded in the lock file. */
  holder: Holder
  /** How long the lock was held, in milliseconds. */
  held: number
}

/** See {@link LockChannels}. */
export interface LostMessage extends ReleasedMessage {
  /** Why the lock counts as lost, such as `the path names another file now`. */
  reason: string
}
