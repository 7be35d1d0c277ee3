import { clearTimeout, delay, monotonic, setTimeout } from '../shared/clock.js'
import { codeOf, isTransient, SQLSTATE } from './errors.js'
import * as held from './held-locks.js'
import { halves, lockKey, turnKey } from './key.js'
import type { LockTable } from './lock-table.js'
import { contentionDetails, holderOf, isLocalProcessGone, type LockView } from './lock-view.js'
import { pathOf, type Session } from './session.js'
import type { SessionPool } from './session-pool.js'
import type { Request } from './settings.js'
import {
  holds,
  leaveTurn,
  lockInTurnWithin,
  lockSharedWithin,
  lockWithin,
  tryLock,
  tryLockShared,
  unlock,
  unlockShared,
} from './sql.js'

/**
 * The maximum time that one statement waits, in milliseconds. Meanwhile the server keeps every row version that the
 * statement could read, and CREATE INDEX CONCURRENTLY waits for its end.
 */
const STATEMENT_SLICE_MS = 250

/** The pauses before a reconnect, in milliseconds; they double. */
const FIRST_PAUSE_MS = 50
const MAX_PAUSE_MS = 2000

/** The maximum age of the details of a refusal, in milliseconds. */
const FRESH_MS = 1000

/** How long a call waits for a session that another call has just finished with, in milliseconds. */
const RETURN_GRACE_MS = 25

/** How long the server may take to detect that a process of this machine has ended, in milliseconds. */
export const DEAD_HOLDER_WAIT_MS = 1000

/** How long a session may hold the lock before it records its holder, in milliseconds. */
const UNRECORDED_HOLDER_WAIT_MS = 100

/** Why a call without `shared` waits for its own process. */
const UPGRADE = 'this process holds it in shared mode: release it first'

/** The locks of a queue. */
type Named = Pick<Request, 'name' | 'shared'>

/** The known state of a lock that is held. */
export interface Seen {
  path: string
  details: ReturnType<typeof contentionDetails>
}

/** A call that acquires the lock. */
export interface Caller {
  /** On the monotonic clock. */
  readonly deadline: number
  /** Whether the call has been refused once and waits. */
  readonly hasWaited: boolean
  /** Whether a listener or a subscriber observes the wait. */
  readonly hasObserver: boolean
  /** The session holds the lock for this call, which is responsible for it from now on. */
  grant(session: Session): void
  /** Another session holds the lock: the call waits or fails. */
  refuse(seen: Seen): void
  /** Rejects the call, which leaves the queue. */
  fail(error: unknown): void
}

/** The calls of one process for one name in arrival order, and the one session that waits for all of them. */
export class NameQueue {
  readonly name: string
  readonly key: bigint
  readonly shared: boolean
  readonly #turn: bigint
  /** Whether readers hold the lock that a call without `shared` waits for. */
  #awaitsReaders = false
  readonly #sessions: SessionPool
  readonly #table: LockTable
  readonly #onEmpty: () => void
  #callers: Caller[] = []
  #isRunning = false
  /** Ends the wait for a free session, if the queue waits for one. */
  #endSessionWait: (() => void) | undefined
  #exhaustionTimer: NodeJS.Timeout | undefined
  /** Whether it has waited for longer than a session takes to return. */
  #isExhausted = false
  #seen: Seen | undefined
  #seenAt = Number.NEGATIVE_INFINITY
  /** Why the connection is lost now. */
  #connectionError: Error | undefined
  #pause = FIRST_PAUSE_MS
  /** The time until which a holder that may be gone is not reported. */
  #graceUntil: number | undefined
  #wake: () => void = () => {}
  #stepping: Promise<unknown> = Promise.resolve()

  constructor(sessions: SessionPool, table: LockTable, { name, shared }: Named, onEmpty: () => void) {
    this.#sessions = sessions
    this.#table = table
    this.name = name
    this.shared = shared
    this.key = lockKey(name)
    this.#turn = turnKey(name)
    this.#onEmpty = onEmpty
  }

  join(caller: Caller): void {
    this.#callers.push(caller)
    if (!this.#isRunning) void this.#run()
  }

  /** Resolves when the lock can no longer be granted to this call. */
  async leave(caller: Caller): Promise<void> {
    this.#callers = this.#callers.filter((other) => other !== caller)
    if (this.#callers.length > 0) return
    // The next call queries again.
    this.#forget()
    this.#wake()
    this.#endSessionWait?.()
    await this.#stepping
  }

  /** The known state of the lock, or why the server cannot be queried now. */
  get seen(): Seen | undefined {
    if (!this.#connectionError || !this.#seen) return this.#seen
    const reason = `the connection is lost, and is made again (${this.#connectionError.message})`
    return { ...this.#seen, details: { reason } }
  }

  /** The error of a call that has timed out for another reason than a holder. */
  get timeoutError(): Error | undefined {
    return this.#connectionError ?? (this.#isExhausted ? this.#sessions.exhausted() : undefined)
  }

  #forget(): void {
    this.#seen = undefined
    this.#seenAt = Number.NEGATIVE_INFINITY
  }

  async #run(): Promise<void> {
    this.#isRunning = true
    let session: Session | undefined
    while (this.#callers.length > 0) {
      try {
        const step = this.#step(session)
        this.#stepping = step.catch(() => {})
        session = await step
      } catch (error) {
        this.#onSessionWait()
        if (session) {
          this.#refuseNew()
          await this.#sessions.drop(session)
        }
        session = undefined
        await this.#failed(error)
      }
    }
    this.#isRunning = false
    this.#onEmpty()
    if (session) await this.#leaveServer(session)
  }

  /** Calls that have joined a wait since the last refusal wait, too. */
  #refuseNew(): void {
    const { seen } = this
    if (!seen) return
    for (const caller of this.#callers) if (!caller.hasWaited) caller.refuse(seen)
  }

  async #leaveServer(session: Session): Promise<void> {
    try {
      if (this.#awaitsReaders) await this.#endTurn(session)
      this.#sessions.checkIn(session)
    } catch {
      // The end of the session also ends its turn.
      await this.#sessions.drop(session)
    }
  }

  #endTurn(session: Session): Promise<unknown> {
    return session.query(
      leaveTurn(this.#turn, this.shared ? 'pg_advisory_unlock_shared' : 'pg_advisory_unlock'),
    )
  }

  /** One attempt to lock. Returns the session if it continues to wait. */
  async #step(waiting: Session | undefined): Promise<Session | undefined> {
    const { session, answer } = waiting
      ? { session: waiting, answer: await this.#wait(waiting) }
      : await this.#connect()
    this.#connectionError = undefined
    this.#pause = FIRST_PAUSE_MS
    try {
      if (answer) {
        this.#graceUntil = undefined
        await this.#handOver(session)
        return undefined
      }
      await this.#refused(session)
      return session
    } catch (error) {
      if (!waiting) await this.#sessions.drop(session)
      throw error
    }
  }

  #connect(): Promise<{ session: Session; answer: boolean }> {
    const latest = this.#callers.reduce((most, { deadline }) => Math.max(most, deadline), 0)
    const { sessionTimeout, connectTimeout } = this.#sessions.settings
    // A silent session must not keep the queue from a new connection: the attempt does not wait for the lock.
    const limit = Math.min(sessionTimeout / 4, connectTimeout)
    const first = async (session: Session) => {
      await this.#sessions.endLost(session, limit)
      return this.#try(session, limit)
    }
    const wait = Math.max(RETURN_GRACE_MS, latest - monotonic())
    return this.#sessions.checkOut(first, wait, (endWait) => this.#onSessionWait(endWait))
  }

  #onSessionWait(endWait?: () => void): void {
    clearTimeout(this.#exhaustionTimer)
    this.#endSessionWait = endWait
    this.#isExhausted = false
    if (!endWait) return
    this.#exhaustionTimer = setTimeout(() => this.#onExhaustion(), RETURN_GRACE_MS)
    // All calls may have left before.
    if (this.#callers.length === 0) endWait()
  }

  /** Fails the calls whose deadline has passed before: their timers have fired already. */
  #onExhaustion(): void {
    this.#isExhausted = true
    const now = monotonic()
    for (const caller of this.#callers) if (caller.deadline <= now) caller.fail(this.#sessions.exhausted())
  }

  #try(session: Session, limit?: number): Promise<boolean> {
    return this.shared
      ? session.query<boolean>(tryLockShared(this.key, this.#turn), undefined, 0, limit)
      : session.query<boolean>(tryLock, [this.key], 0, limit)
  }

  /** The statement that waits. */
  get #lockWithin() {
    if (this.shared) return lockSharedWithin
    return this.#awaitsReaders ? lockInTurnWithin : lockWithin
  }

  /** Waits in the server's queue, at most until the next deadline of a call. */
  async #wait(session: Session): Promise<boolean> {
    const now = monotonic()
    const first = this.#callers.reduce(
      (least, { deadline }) => Math.min(least, deadline),
      Number.POSITIVE_INFINITY,
    )
    const next = Math.max(first, this.#graceUntil ?? 0)
    // Random, because two processes in step would always alternate in the same order.
    const slice = STATEMENT_SLICE_MS * (0.8 + 0.4 * Math.random())
    const milliseconds = Math.ceil(Math.max(1, Math.min(slice, next - now)))
    const { sessionTimeout } = this.#sessions.settings
    try {
      await this.#sessions.endLost(session)
      return await session.query<boolean>(
        this.#lockWithin(this.key, halves(this.key), milliseconds, this.#turn, sessionTimeout),
        undefined,
        milliseconds,
      )
    } catch (error) {
      if (session.isEnded) throw error
      // The statement may have acquired the lock before it ended.
      if (await session.query<boolean>(holds, halves(this.key))) {
        await this.#endTurn(session)
        return true
      }
      const code = codeOf(error)
      if (code !== SQLSTATE.insufficientPrivilege && code !== SQLSTATE.undefinedObject) throw error
      // This role may not use PL/pgSQL, or the database does not have it.
      await delay(milliseconds)
      const isAcquired = await this.#try(session)
      // An earlier slice may have left it.
      if (isAcquired && this.#awaitsReaders) await this.#endTurn(session)
      return isAcquired
    }
  }

  async #handOver(session: Session): Promise<void> {
    const [caller] = this.#callers
    this.#forget()
    // The session has released its turn.
    this.#awaitsReaders = false
    if (caller) return caller.grant(session)
    await (this.shared ? session.query(unlockShared(this.key)) : session.query(unlock, [this.key]))
    this.#sessions.checkIn(session)
  }

  /** Another session holds the lock: notifies the observers, and refuses calls whose deadline has passed. */
  async #refused(session: Session): Promise<void> {
    const isNews = this.#callers.some(({ hasWaited, hasObserver }) => !hasWaited || hasObserver)
    if (!isNews && !this.#isOver() && monotonic() - this.#seenAt < FRESH_MS) return
    const view = await this.#readState(session)
    this.#awaitsReaders ||= !this.shared && view !== undefined && view.readers.length > 0
    if (view && this.#isInGrace(view)) return
    const details = this.#isUpgrade(view) ? { reason: UPGRADE } : contentionDetails(view)
    this.#seen = { path: pathOf(session, this.name), details }
    this.#seenAt = monotonic()
    for (const caller of this.#callers) caller.refuse(this.#seen)
  }

  /** Whether this process is a reader. If another session owns the lock, the reader has lost it without notice. */
  #isUpgrade(view: LockView | undefined): boolean {
    if (this.shared || (view && view.backend !== null)) return false
    const own = held.find(this.#sessions, this.name)
    return own?.shared === true && own.isHeld()
  }

  #isOver(): boolean {
    const now = monotonic()
    return this.#callers.some(({ deadline }) => deadline <= now)
  }

  /** A query that the server refuses does not end the wait, for example if another session locks the table. */
  async #readState(session: Session): Promise<LockView | undefined> {
    try {
      return await this.#table.readState(session, this.name, this.key)
    } catch (error) {
      if (session.isEnded || codeOf(error) !== SQLSTATE.lockNotAvailable) throw error
      return undefined
    }
  }

  /** Whether to report no contention yet, because the lock may be passing from one holder to the next. */
  #isInGrace(view: LockView): boolean {
    const holder = holderOf(view)
    const isRead = view.readers.length > 0 && view.backend === null
    if (isRead || (holder && !isLocalProcessGone(holder))) {
      this.#graceUntil = undefined
      return false
    }
    const now = monotonic()
    this.#graceUntil ??= now + (holder ? DEAD_HOLDER_WAIT_MS : UNRECORDED_HOLDER_WAIT_MS)
    return now < this.#graceUntil
  }

  /** Waiting calls continue when the server is back; the others fail with the error. */
  async #failed(error: unknown): Promise<void> {
    // The deadline of the call that waited for a session has passed, but not that of a later call.
    const isExhaustion = codeOf(error) === 'E_LOCK_CONNECTIONS'
    for (const caller of this.#callers) {
      const continues = isExhaustion || (caller.hasWaited && isTransient(error))
      if (!continues || caller.deadline <= monotonic()) caller.fail(error)
    }
    if (this.#callers.length === 0 || isExhaustion) return
    this.#connectionError = error as Error
    const pause = this.#pause * (0.5 + Math.random() / 2)
    this.#pause = Math.min(this.#pause * 2, MAX_PAUSE_MS)
    const left = new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    await Promise.race([delay(pause), left])
  }
}
