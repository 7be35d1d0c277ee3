import type { PostgresLock } from '../../postgres.js'
import { hasWaitSubscribers, publishAcquired, publishContended, publishWaiting } from '../shared/channels.js'
import { clearTimeout, MAX_TIMER_MS, monotonic, setTimeout } from '../shared/clock.js'
import { contention } from '../shared/errors.js'
import { timedOut } from './errors.js'
import { HeldLock } from './lock.js'
import type { LockTable } from './lock-table.js'
import { type Caller, DEAD_HOLDER_WAIT_MS, type NameQueue, type Seen } from './queue.js'
import { responseTimer } from './response-timer.js'
import { pathOf, type Session } from './session.js'
import type { SessionPool } from './session-pool.js'
import type { Request } from './settings.js'
import { unlock, unlockShared } from './sql.js'

/** How often a wait notifies its observers, in milliseconds; plus one, because a timer may fire early. */
const NOTIFY_INTERVAL_MS = 1000 + 1

/** How long after its deadline a call waits for a pending answer, in milliseconds. */
const ANSWER_GRACE_MS = 25

/** One call of `acquireLock`. */
export class Acquisition implements Caller {
  readonly deadline: number
  isAborted = false
  hasWaited = false
  readonly #started = monotonic()
  readonly #sessions: SessionPool
  readonly #table: LockTable
  readonly #queue: NameQueue
  readonly #request: Request
  #resolve: (lock: PostgresLock) => void = () => {}
  #reject: (error: unknown) => void = () => {}
  #deadlineTimer: NodeJS.Timeout | undefined
  #notifyTimer: NodeJS.Timeout | undefined
  #stopAwaiting = () => {}
  #refused: Seen | undefined
  #isGranted = false

  constructor(sessions: SessionPool, table: LockTable, queue: NameQueue, request: Request) {
    this.#sessions = sessions
    this.#table = table
    this.#queue = queue
    this.#request = request
    this.deadline = this.#started + request.timeout
  }

  run(): Promise<PostgresLock> {
    const acquired = new Promise<PostgresLock>((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    this.#queue.join(this)
    this.#startDeadlineTimer()
    return acquired
  }

  get hasObserver(): boolean {
    return this.hasWaited && (this.#request.onWait !== undefined || hasWaitSubscribers())
  }

  /** If the lock is granted meanwhile, `abortable` rolls it back. */
  abort(): void {
    this.isAborted = true
    if (!this.#isGranted) void this.#leave().then(() => this.#reject(this.#request.signal?.reason))
  }

  fail(error: unknown): void {
    void this.#leave()
    this.#reject(error)
  }

  #leave(): Promise<void> {
    clearTimeout(this.#deadlineTimer)
    clearTimeout(this.#notifyTimer)
    this.#stopAwaiting()
    return this.#queue.leave(this)
  }

  /** Ends the call at its deadline even if the server or the driver does not answer. */
  #startDeadlineTimer(): void {
    const grace = this.#request.timeout === 0 ? 0 : ANSWER_GRACE_MS
    const left = this.deadline + grace - monotonic()
    if (left <= 0) this.#onDeadline()
    else this.#deadlineTimer = setTimeout(() => this.#startDeadlineTimer(), Math.min(left, MAX_TIMER_MS))
  }

  #onDeadline(): void {
    const { timeoutError, seen = this.#refused } = this.#queue
    if (timeoutError) this.fail(timeoutError)
    else if (seen) this.refuse(seen)
    else this.#awaitAnswer()
  }

  /** A connection may be under way; an open one may be silent, which its session detects later. */
  #awaitAnswer(): void {
    const left = this.#sessions.settings.connectTimeout + DEAD_HOLDER_WAIT_MS
    const end = () =>
      this.fail(timedOut(`The lock ${this.#queue.name} was neither acquired nor refused`, left))
    this.#stopAwaiting = responseTimer(left, end)
  }

  refuse(seen: Seen): void {
    // A listener of another call can have aborted this one.
    if (this.isAborted) return
    this.#refused = seen
    const isLate = monotonic() >= this.deadline
    if (!this.hasWaited) publishContended(this.#refusal(seen))
    const isFirst = !this.hasWaited
    this.hasWaited = true
    if (isLate) this.fail(this.#refusal(seen))
    else if (isFirst && !this.isAborted) this.#notify()
  }

  #notify(): void {
    this.#notifyTimer = setTimeout(() => this.#notify(), NOTIFY_INTERVAL_MS)
    const { seen } = this.#queue
    if (!seen || !this.hasObserver) return
    const status = { path: seen.path, ...seen.details, waited: this.waited() }
    try {
      this.#request.onWait?.(status)
    } catch (error) {
      this.fail(error)
      return
    }
    if (hasWaitSubscribers()) publishWaiting(status)
  }

  waited(): number {
    return this.hasWaited ? Math.round(monotonic() - this.#started) : 0
  }

  #refusal({ path, details }: Seen) {
    return contention(this.#request.message, { path, ...details })
  }

  grant(session: Session): void {
    this.#isGranted = true
    void this.#leave()
    this.#record(session).then(this.#resolve, this.#reject)
  }

  async #record(session: Session): Promise<PostgresLock> {
    const { name, key, shared } = this.#queue
    try {
      const recorded = await (shared
        ? this.#table.recordShared(session, name, key)
        : this.#table.record(session, name, key))
      const lock = new HeldLock({
        session,
        sessions: this.#sessions,
        table: this.#table,
        name,
        key,
        shared,
        path: pathOf(session, name),
        recorded,
      })
      publishAcquired(lock, this)
      // The class gets `Symbol.asyncDispose` at run time, so the type checker cannot check it.
      return lock as unknown as PostgresLock
    } catch (error) {
      await this.#withdraw(session)
      throw error
    }
  }

  /** Releases a lock that could not be recorded. */
  async #withdraw(session: Session): Promise<void> {
    try {
      const { key, shared } = this.#queue
      await (shared ? session.query(unlockShared(key)) : session.query(unlock, [key]))
      this.#sessions.checkIn(session)
    } catch {
      // The end of the session also ends the lock; the call does not wait for it.
      this.#sessions.terminate(session).catch(() => {})
    }
  }
}
