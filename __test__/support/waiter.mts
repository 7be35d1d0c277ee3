import { type ChildProcess, fork, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import type { AcquireOptions, Holder, TakenOver, WaitStatus } from 'reconcile-lock'
import { isLinux } from './directory.mjs'

const fixture = fileURLToPath(new URL('waiter-process.mjs', import.meta.url))

/** How to wait. */
interface Way {
  form: 'async' | 'sync'
  abortAfter?: number
  /** Reports only the start of the wait, because repeated reports cost more than waiting. */
  quiet?: boolean
}

/** An order for a waiter; with `inThread`, a worker thread of its process executes it. */
export type Order = { inThread?: boolean } & (
  | ({ do: 'wait'; options: AcquireOptions } & Way)
  | { do: 'release'; cwd: string }
  | { do: 'turns'; cwd: string; turns: number; log: string }
  | { do: 'usage' | 'exit' | 'throw' | 'disconnect' | 'terminate' }
  | { do: 'restless'; cwd: string; for: number }
  | { do: 'files'; fifo?: string }
)

/** How a wait ended. */
export interface Outcome {
  ok: boolean
  /** When the call ended, by {@link now}. */
  at: number
  /** How long the call took, in milliseconds. */
  took: number
  takenOver?: TakenOver | undefined
  code?: string | undefined
  message?: string | undefined
  reason?: string | undefined
  holder?: Holder | undefined
}

/** The resources that a process uses. */
export interface Usage {
  /** Processor time, in milliseconds. */
  cpu: number
  /** Only on Linux, as are the descriptors. */
  threads: number
  descriptors: number
}

export type Message = { number: number } & ({ begun: WaitStatus } | { value: unknown } | { failed: string })

interface Asked {
  begin: (status: WaitStatus) => void
  resolve: (value: never) => void
  reject: (error: Error) => void
}

/** When `performance.now()` was 0, by a clock that can be set and that a busy machine reads late. */
const origin = (): number => Math.max(...Array.from({ length: 3 }, atNextTick))

function atNextTick(): number {
  const last = Date.now()
  let now = last
  while (now === last) now = Date.now()
  return now - performance.now()
}

function sharedClock(): () => number {
  const { bun, deno } = process.versions
  // Of Node.js it is the clock of the system.
  if (!bun && !deno) return () => Number(process.hrtime.bigint()) / 1e6
  const start = origin()
  return () => start + performance.now()
}

/** The time in milliseconds, which all processes of a machine share. */
export const now = sharedClock()

/** Sends concurrent orders to another process or thread, and returns their answers. */
class Line {
  readonly #asked = new Map<number, Asked>()
  readonly #send: (message: Order & { number: number }) => void
  #last = 0

  constructor(send: (message: Order & { number: number }) => void) {
    this.#send = send
  }

  onMessage(message: Message): void {
    const asked = this.#asked.get(message.number)
    if (asked !== undefined && 'begun' in message) asked.begin(message.begun)
    if (asked === undefined || 'begun' in message) return
    this.#asked.delete(message.number)
    if ('failed' in message) asked.reject(new Error(message.failed))
    else asked.resolve(message.value as never)
  }

  end(how: string): void {
    for (const { reject } of this.#asked.values()) reject(new Error(`the waiter has ended: ${how}`))
    this.#asked.clear()
  }

  ask<T>(order: Order): { begun: Promise<WaitStatus>; answer: Promise<T> } {
    this.#last += 1
    const number = this.#last
    let asked: Asked | undefined
    let begin: Asked['begin'] = () => {}
    const begun = new Promise<WaitStatus>((resolve) => {
      begin = resolve
    })
    const answer = new Promise<T>((resolve, reject) => {
      asked = { begin, resolve, reject }
    })
    // An answer that no test awaits must not cause an unhandled rejection.
    answer.catch(() => {})
    if (asked) this.#asked.set(number, asked)
    this.#send({ ...order, number })
    return { begun, answer }
  }
}

/** Starts a wait and returns when it has begun; `outcome` is how it ends. */
async function begin(line: Line, order: Order): Promise<{ status: WaitStatus; outcome: Promise<Outcome> }> {
  const { begun, answer } = line.ask<Outcome>(order)
  const early = answer.then(({ code }) => Promise.reject(new Error(`it did not wait: ${code ?? 'acquired'}`)))
  early.catch(() => {})
  return { status: await Promise.race([begun, early]), outcome: answer }
}

type Wanted = Partial<Way> & { inThread?: boolean } & AcquireOptions

const asWait = ({
  form = 'async',
  inThread = false,
  quiet = false,
  abortAfter,
  ...options
}: Wanted): Order => ({
  do: 'wait',
  form,
  inThread,
  quiet,
  ...(abortAfter === undefined ? {} : { abortAfter }),
  options: { timeout: Number.POSITIVE_INFINITY, ...options },
})

/** Another process that waits on command. */
export class Waiter {
  readonly child: ChildProcess
  readonly #line: Line

  /** `within`: a command and its options that start the process. */
  constructor(t: TestContext, { within = [] as string[], env = {}, stderr = 'inherit' } = {}) {
    const [execPath = '', ...execArgv] = [...within, process.execPath]
    this.child = fork(fixture, {
      execPath,
      execArgv,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'inherit', stderr as 'inherit' | 'ignore', 'ipc'],
      // JSON has no Infinity.
      serialization: 'advanced',
    })
    // An order after the end, from a test that took too long, is rejected. Without a callback, it would fail
    // the test that runs then.
    const ended = (error: Error | null) => error && this.#line.end(error.message)
    this.#line = new Line((message) => this.child.send(message, ended))
    this.child.on('message', (message) => this.#line.onMessage(message as Message))
    this.child.on('exit', (code, signal) => this.#line.end(signal ?? `code ${code}`))
    t.after(() => this.child.kill('SIGKILL'))
  }

  get pid(): number {
    return this.child.pid ?? Number.NaN
  }

  ask<T>(order: Order): Promise<T> {
    return this.#line.ask<T>(order).answer
  }

  /** Starts a wait, and returns when it has begun. */
  begin(wanted: Wanted): Promise<{ status: WaitStatus; outcome: Promise<Outcome> }> {
    return begin(this.#line, asWait(wanted))
  }

  /** Waits until the wait is over. */
  wait(wanted: Wanted): Promise<Outcome> {
    return this.ask(asWait(wanted))
  }

  release(cwd: string): Promise<void> {
    return this.ask({ do: 'release', cwd })
  }

  usage(): Promise<Usage> {
    return this.ask({ do: 'usage' })
  }

  /** Sends a signal or an order that ends the process; returns how long the end took, in milliseconds. */
  async ends(how: NodeJS.Signals | Order): Promise<{ took: number; code: number | null }> {
    const exit = once(this.child, 'exit')
    const before = performance.now()
    if (typeof how === 'string') this.child.kill(how)
    else this.ask(how).catch(() => {})
    const [code] = (await exit) as [number | null]
    return { took: performance.now() - before, code }
  }
}

/** A thread of this process that waits on command. */
export class ThreadWaiter {
  readonly worker = new Worker(fixture)
  readonly #line = new Line((message) => this.worker.postMessage(message))

  constructor(t: TestContext) {
    this.worker.on('message', (message) => this.#line.onMessage(message as Message))
    this.worker.on('exit', (code) => this.#line.end(`code ${code}`))
    t.after(() => this.worker.terminate())
  }

  begin(wanted: Wanted): Promise<{ status: WaitStatus; outcome: Promise<Outcome> }> {
    return begin(this.#line, asWait(wanted))
  }

  wait(wanted: Wanted): Promise<Outcome> {
    return this.#line.ask<Outcome>(asWait(wanted)).answer
  }

  release(cwd: string): Promise<void> {
    return this.#line.ask<void>({ do: 'release', cwd }).answer
  }
}

const ps = (pid: number, field: string) =>
  spawnSync('ps', ['-o', `${field}=`, '-p', String(pid)], { encoding: 'utf8' }).stdout

/** The name of the program that a process runs. */
export const programOf = (pid: number | undefined): string =>
  (isLinux ? readFileSync(`/proc/${pid}/comm`, 'utf8') : ps(Number(pid), 'comm')).trim()

/** The state of a process: `T` if it is stopped, `Z` if it is a zombie. */
export function processState(pid: number): string | undefined {
  if (!isLinux) return ps(pid, 'state')[0]
  return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop()?.[0]
}
