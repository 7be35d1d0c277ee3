import type { JsRefused } from '../binding.js'
import type { WaitStatus } from '../index.js'
import { withoutNulls } from './lock.js'
import { native } from './native.js'
import type { Options } from './options.js'
import { hasWaitSubscribers, publishContended, publishWaiting } from './shared/channels.js'
import { monotonic } from './shared/clock.js'
import { isContention, type LockError } from './shared/errors.js'

/** How often a wait notifies its observers, in milliseconds. */
export const NOTIFY_INTERVAL_MS = 1000

/** The state of one call: its start, its first refusal, and whether it was aborted. */
export class AcquireCall {
  isAborted = false
  /** Orders the queue by the calls, not by their first refusals. */
  readonly id: number
  readonly #started: number
  readonly #legacy: boolean
  readonly #timeout: number
  readonly #onWait: Options['onWait']
  #firstRefusal: LockError | undefined

  constructor({ legacy, timeout, onWait }: Options) {
    this.id = timeout ? native.nextWait() : 0
    this.#legacy = legacy
    this.#timeout = timeout
    this.#onWait = onWait
    this.#started = monotonic()
  }

  /** The lock to wait for, by its absolute path: the process may have changed its current directory. */
  get target(): [file: string, message: string, legacy: boolean] {
    const { path, message } = this.#firstRefusal as LockError
    return [path, message, this.#legacy]
  }

  /** How long the call has been waiting for a holder, in milliseconds. */
  readonly waited = (): number => (this.#firstRefusal ? Math.round(monotonic() - this.#started) : 0)

  /** The remaining time after a refusal. Throws any other error, and the refusal if no time remains. */
  remainingOrThrow(error: unknown): number {
    if (!isContention(error)) throw error
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

  abort(): void {
    this.isAborted = true
    native.cancelWait(this.id)
  }

  /** Whether a listener or a subscriber observes the wait. */
  get hasObserver(): boolean {
    return this.#onWait !== undefined || hasWaitSubscribers()
  }

  notify(): void {
    const { path = '', holder, reason } = this.#currentRefusal() ?? {}
    const status: WaitStatus = {
      path,
      ...(holder && { holder }),
      ...(reason != null && { reason }),
      waited: this.waited(),
    }
    const onWait = this.#onWait
    onWait?.(status)
    if (hasWaitSubscribers()) publishWaiting(status)
  }

  #currentRefusal(): Partial<Pick<LockError, 'path' | 'holder' | 'reason'>> | undefined {
    const refused = native.waitingFor(this.id)
    if (!refused || !this.#firstRefusal || isUninformative(refused)) return this.#firstRefusal
    return { path: this.#firstRefusal.path, ...withoutNulls<object>(refused) }
  }

  /** At the end of a wait, the first refusal may be the only one that names a holder. */
  withLastKnownHolder(error: unknown): unknown {
    return isContention(error) && isUninformative(error) ? this.#firstRefusal : error
  }
}

const isUninformative = ({ holder, reason }: Partial<JsRefused> | LockError): boolean =>
  holder == null && reason == null

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw signal.reason
}
