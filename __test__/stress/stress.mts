// A stress test: clients request the same locks while some are killed and others lose their sessions.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Postgres } from '../postgres/postgres.mjs'
import { sleep } from '../support/time.mjs'
import type { Verdict } from './tokens.mjs'

const contender = fileURLToPath(new URL('contender.mjs', import.meta.url))

/** The work of the clients of one process. */
export interface Plan {
  url: string
  clients: number
  names: string[]
  ways: ('once' | 'wait' | 'abort')[]
  /** How often each writes under the lock. */
  writes: number
  /** The probability that a holder kills its process. */
  falls: number
  takesLocks: boolean
}

export type Message =
  | { acquired: { name: string; token: string; isTakenOver: boolean } }
  | { end: { refused: number; how: string } }
  | { error: string }

/** Errors of `pg` for a session that was terminated, and for a server that is down or starting. */
const ENDED = new Set([
  '57P01',
  '08001',
  '08006',
  'Connection terminated',
  'Connection terminated unexpectedly',
])
const DOWN = new Set(['57P02', '57P03', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'])
const KINDS: Record<string, string> = {
  E_LOCK_CONTENTION: 'contention',
  E_LOCK_LOST: 'lost',
}

/** The kind of an error: a short name if it is documented. */
export function kindOf(error: unknown): string {
  const { name, code = '', message } = error as Error & { code?: unknown }
  if (name === 'TimeoutError') return 'aborted'
  if (ENDED.has(String(code)) || ENDED.has(message)) return 'session ended'
  if (DOWN.has(String(code))) return 'server down'
  return KINDS[String(code)] ?? `${code} ${message}`
}

/** The processes of a stress test. */
export class StressTest {
  readonly tokens: string[] = []
  readonly kinds: Record<string, number> = {}
  /** Processes that ended without a stop message or a kill. */
  readonly faults: string[] = []
  takeOvers = 0
  kills = 0
  terminations = 0
  /** Holders that released normally although a write was refused: another client wrote meanwhile. */
  overlaps = 0
  readonly #postgres: Postgres
  readonly #plan: Plan
  readonly #running = new Map<number, { child: ChildProcess; exit: Promise<unknown> }>()
  #isStopped = false
  #turn: Promise<void> = Promise.resolve()

  constructor(postgres: Postgres, plan: Partial<Plan> & Pick<Plan, 'names' | 'ways'>) {
    this.#postgres = postgres
    this.#plan = { url: postgres.url(), clients: 1, writes: 3, falls: 0, takesLocks: true, ...plan }
  }

  start(processes: number, plan: Partial<Plan> = {}): void {
    for (let index = 0; index < processes; index += 1) this.#start({ ...this.#plan, ...plan })
  }

  #start(plan: Plan): void {
    const child = fork(contender, [JSON.stringify(plan)])
    const { pid } = child
    if (pid === undefined) throw new Error('no process could be started')
    child.on('message', (message: Message) => this.#receive(message))
    const exit = once(child, 'exit').then(([code, signal]) => {
      this.#running.delete(pid)
      if (signal === 'SIGKILL') this.kills += 1
      else if (code !== 0 || !this.#isStopped) this.faults.push(`ended with ${signal ?? code}`)
      if (!this.#isStopped) this.#start(plan)
    })
    this.#running.set(pid, { child, exit })
  }

  #receive(message: Message): void {
    if ('acquired' in message) {
      const { name, token, isTakenOver } = message.acquired
      this.tokens.push(`${name} ${token}`)
      if (isTakenOver) this.takeOvers += 1
      return
    }
    const kind = 'error' in message ? message.error : message.end.how
    this.kinds[kind] = (this.kinds[kind] ?? 0) + 1
    if ('end' in message && kind === 'released' && message.end.refused > 0) this.overlaps += 1
  }

  /** Kills the process of a holder, or a random one. */
  async killOne(): Promise<void> {
    const held = 'SELECT pid FROM reconcile_lock WHERE released_at IS NULL ORDER BY random() LIMIT 1'
    const [holder] = Math.random() < 0.5 ? await this.#postgres.sql<{ pid: string }>(held) : []
    // A row may name a process that was killed before; only a child of this process gets a signal.
    const chosen = this.#running.get(Number(holder?.pid)) ?? this.#any()
    chosen?.child.kill('SIGKILL')
  }

  #any() {
    return [...this.#running.values()][Math.floor(Math.random() * this.#running.size)]
  }

  /** Terminates the session of a holder, or that of a random client. */
  async terminateOne(): Promise<void> {
    const open = "FROM pg_stat_activity WHERE application_name = 'reconcile-lock'"
    const held = 'AND pid IN (SELECT backend FROM reconcile_lock WHERE released_at IS NULL)'
    const from = Math.random() < 0.5 ? `${open} ${held}` : open
    const [ended] = await this.#postgres.sql<{ was: boolean }>(
      `SELECT pg_terminate_backend(pid) AS was FROM (SELECT pid ${from} ORDER BY random() LIMIT 1) AS one`,
    )
    if (ended?.was) this.terminations += 1
  }

  /** Strikes at random moments until the signal is aborted. */
  async strike(what: 'killOne' | 'terminateOne', atMost: number, until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      await sleep(Math.random() * atMost, 'the next strike comes at a random moment')
      await this.between(() => this[what]())
    }
  }

  /** Runs `what` between two strikes, which need the server. */
  between(what: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(what)
    this.#turn = done.catch(() => {})
    return done
  }

  /** Stops all processes and waits until they have ended. */
  async stop(): Promise<void> {
    this.#isStopped = true
    const all = [...this.#running.values()]
    for (const { child } of all) child.send('stop', () => {})
    await Promise.all(all.map(({ exit }) => exit))
  }

  /** Prints the counts. */
  report(t: TestContext, { acquisitions, writes, refused, staleAccepted }: Verdict): void {
    const kinds = Object.entries(this.kinds).map(([kind, times]) => `${kind} ${times}`)
    for (const line of [
      `${acquisitions} acquisitions, ${this.takeOvers} of them take-overs`,
      `${this.kills} processes killed, ${this.terminations} sessions terminated`,
      `${writes} writes, ${refused} refused, ${staleAccepted} stale ones accepted, ${this.overlaps} overlaps`,
      `how calls ended: ${kinds.join(', ')}`,
    ])
      t.diagnostic(line)
  }

  /** Kills the processes that a failed test has left. */
  end(): void {
    this.#isStopped = true
    for (const { child } of this.#running.values()) child.kill('SIGKILL')
  }
}
