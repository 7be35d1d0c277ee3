import type { JsRefused } from '../binding.js'
import type { WaitStatus } from '../index.js'
import { withoutNulls } from './lock.js'
import { native, resultOf, unrefCall } from './native.js'
import { type Options, settingsOf } from './options.js'
import { hasWaitSubscribers, publishContended, publishWaiting } from './shared/channels.js'
import { monotonic } from './shared/clock.js'
import { deadlockReason } from './shared/deadlock.js'
import { contention, isContention, type LockError, MESSAGE } from './shared/errors.js'
import { slotPaths } from './shared/slots.js'

/** How often a wait notifies its observers, in milliseconds. */
export const NOTIFY_INTERVAL_MS = 1000

/** The minimum time for the first attempts of a call, in milliseconds: only a holder may refuse it, not a busy machine. */
const FIRST_ANSWERS_MS = 200

/** The time for further slots if the first ones have taken all of the call's time, in milliseconds. */
const FURTHER_ANSWERS_MS = 100

/** The wait for one lock. */
export interface Wait {
  id: number
  file: string
}

/** The state of one call: its start, its first refusal, and whether it was aborted. */
export class AcquireCall {
  isAborted = false
  /** A first attempt got no answer in its time: the disk hangs. */
  isUnanswered = false
  /** The listener has thrown, perhaps the refusal of another call. */
  hasThrown = false
  /** Orders the queue by the calls, not by their first refusals. */
  readonly id: number
  /** The files of the slots, if there are several. */
  readonly slots: string[] | undefined
  readonly message: string | undefined
  readonly settings: number
  readonly #started: number
  readonly #timeout: number
  readonly #onWait: Options['onWait']
  #waits: Wait[] = []
  #firstRefusal: LockError | undefined
  #notified = Number.NEGATIVE_INFINITY
  /** The end of the time for further slots. */
  #answersEnd: number | undefined

  constructor(options: Options) {
    const { cwd, file, message, slots, timeout, onWait } = options
    this.slots = slots > 1 ? slotPaths(resultOf(native.resolvePath(cwd, file)), slots) : undefined
    this.id = timeout ? native.nextWaiterId() : 0
    this.message = message
    this.settings = settingsOf(options)
    this.#timeout = timeout
    this.#onWait = onWait
    this.#started = monotonic()
  }

  /** The locks to wait for, by their absolute paths: the process may have changed its current directory. */
  planWaits(): Wait[] {
    const files = this.slots ?? [this.#firstRefusal?.path as string]
    this.#waits = files.map((file, index) => ({ id: index === 0 ? this.id : native.nextWaiterId(), file }))
    return this.#waits
  }

  /** Cancels the waits. It is harmless for those that are over. */
  cancelWaits(): void {
    for (const { id } of this.#waits.splice(0)) native.cancelWait(id)
  }

  /** Whether a wait was planned and not cancelled. */
  get isWaiting(): boolean {
    return this.#waits.length > 0
  }

  /** How long the call has been waiting for a holder, in milliseconds. */
  waited(): number {
    return this.#firstRefusal ? Math.round(monotonic() - this.#started) : 0
  }

  /** The remaining time after a refusal. Throws any other error, and the refusal if no time remains. */
  remainingOrThrow(error: unknown): number {
    if (!isContention(error)) throw error
    this.#addReason(error)
    publishContended(error)
    this.#firstRefusal = error
    const { remaining } = this
    if (remaining > 0) return remaining
    throw error
  }

  /** How long the call may still wait, in milliseconds. */
  get remaining(): number {
    return this.isAborted ? 0 : this.#timeout - (monotonic() - this.#started)
  }

  /** How long the call may wait for the answer to a first attempt, in milliseconds. */
  get remainingForAnswers(): number {
    const left = Math.max(this.remaining, FIRST_ANSWERS_MS - (monotonic() - this.#started))
    if (left >= FURTHER_ANSWERS_MS) return left
    this.#answersEnd ??= monotonic() + FURTHER_ANSWERS_MS
    return Math.max(left, this.#answersEnd - monotonic())
  }

  /** Whether the time for the first attempts is over. */
  get isLate(): boolean {
    return this.#timeout > 0 && this.remainingForAnswers <= 0
  }

  /** The refusal if a first attempt has got no answer. */
  unanswered(path: string): LockError {
    this.isUnanswered = true
    return contention(this.message ?? MESSAGE, { path, reason: 'the filesystem has not answered' })
  }

  abort(rolledBack: Promise<unknown>): void {
    this.isAborted = true
    this.cancelWaits()
    unrefCall(rolledBack)
  }

  /** Whether a listener or a subscriber observes the wait. */
  get hasObserver(): boolean {
    return this.#onWait !== undefined || hasWaitSubscribers()
  }

  /** How long the next notification must wait, in milliseconds. */
  get notificationPause(): number {
    return this.#notified + NOTIFY_INTERVAL_MS - monotonic()
  }

  notify(): void {
    const { path, holder, reason: known } = this.#currentRefusal()
    const reason = known ?? deadlockReason(holder)
    const status: WaitStatus = {
      path,
      ...(holder && { holder }),
      ...(reason != null && { reason }),
      waited: this.waited(),
    }
    const onWait = this.#onWait
    this.#notified = monotonic()
    onWait?.(status)
    if (hasWaitSubscribers()) publishWaiting(status)
  }

  #currentRefusal(): Pick<LockError, 'path' | 'holder' | 'reason'> {
    const first = this.#firstRefusal as LockError
    const refused = native.lastRefusal(this.id)
    if (!refused || isUninformative(refused)) return first
    return { path: first.path, ...withoutNulls<object>(refused) }
  }

  /** At the end of a wait, the first refusal may be the only one that names a holder. */
  withLastKnownHolder(error: unknown): unknown {
    if (!isContention(error)) return error
    const refusal = isUninformative(error) ? (this.#firstRefusal as LockError) : error
    this.#addReason(refusal)
    const reason = refusal.reason ?? deadlockReason(refusal.holder)
    if (reason !== undefined) refusal.reason = reason
    return refusal
  }

  /** The holder is that of one slot. */
  #addReason(refusal: LockError): void {
    if (this.slots) refusal.reason ??= `all ${this.slots.length} slots are held`
  }
}

/** The refusals of several slots. */
export class Refusals {
  /** The refusal of the first slot. */
  error: unknown

  /** Throws the error unless it is a refusal. */
  add(error: unknown): void {
    if (!isContention(error)) throw error
    this.error ??= error
  }
}

const isUninformative = ({ holder, reason }: Partial<JsRefused> | LockError): boolean =>
  holder == null && reason == null

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason
}
