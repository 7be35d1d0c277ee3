// The processes that the benchmark starts, their orders, and the clock that all of them share.
import { spawn } from 'node:child_process'
import { on, once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'

/** How long an answer may take, in milliseconds: the slowest contender needs 10 s. */
const deadline = 60_000

/** CLOCK_MONOTONIC in nanoseconds, which all processes of a kernel share: libuv's `uv__hrtime` reads it. */
export const now = () => process.hrtime.bigint()

const running = new Set()
process.on('exit', () => {
  for (const { child } of running) child.kill('SIGKILL')
})

export const makePlace = (parent) => mkdtempSync(join(parent, 'place-'))

/** The command that runs a process of the benchmark, which collects garbage before it measures memory. */
export const command = (...args) => [process.execPath, '--expose-gc', program, ...args]
const program = join(import.meta.dirname, 'worker.mjs')

/** Prints synchronously, because the event loop may be blocked next. */
export const print = (line) => writeSync(1, `${line}\n`)

/** Answers each order, a line of a word and a value, with the result of its function. Ends with the benchmark. */
export function serve(orders) {
  const lines = createInterface({ input: process.stdin })
  lines.on('line', async (line) => {
    const [order, value] = line.split(' ')
    const result = await orders[order](value && JSON.parse(value))
    if (result !== undefined) print(`done ${JSON.stringify(result)}`)
  })
  lines.on('close', () => process.exit(0))
  print(`ready ${now()}`)
}

/** A process that reads orders as lines, and answers with lines of a word and a value. */
export class Worker {
  #answers
  #name

  constructor([file, ...args]) {
    this.#name = args.join(' ')
    this.started = now()
    this.child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    running.add(this)
    this.ended = once(this.child, 'exit').then(() => running.delete(this))
    this.#answers = on(createInterface({ input: this.child.stdout }), 'line', { close: ['close'] })
    // A write to a killed process fails; its end is handled elsewhere.
    this.child.stdin.on('error', () => {})
  }

  /** Starts a process and waits until it is ready. Latencies need the same clock in both processes. */
  static async start(command) {
    const worker = new Worker(command)
    const at = BigInt(await worker.answer('ready'))
    if (at < worker.started || at > now())
      throw new Error(`${worker.#name}: its clock is ${at}, which is not from ${worker.started} to ${now()}`)
    return worker
  }

  order(order, value) {
    const line = value === undefined ? order : `${order} ${JSON.stringify(value)}`
    this.child.stdin.write(`${line}\n`)
  }

  /** Sends an order and returns its result. */
  async ask(order, value) {
    this.order(order, value)
    return JSON.parse(await this.answer('done'))
  }

  /** The value of the next answer, which must begin with `word`. */
  async answer(word) {
    const late = setTimeout(deadline, { value: [`nothing in ${deadline} ms`] }, { ref: false })
    const { value: [line] = ['nothing and ended'] } = await Promise.race([this.#answers.next(), late])
    if (!line.startsWith(`${word} `)) throw new Error(`${this.#name} answered ${line}, not ${word}`)
    return line.slice(word.length + 1)
  }

  /** Acquires a free lock. */
  async hold() {
    this.order('hold')
    await this.answer('asked')
    await this.answer('held')
  }

  /** Requests a held lock, and waits until the requesting process sleeps. */
  async wait() {
    this.order('hold')
    await asleep(Number(await this.answer('asked')))
  }

  /** Returns the moment just before the release. */
  async release() {
    this.order('release')
    return BigInt(await this.answer('released'))
  }

  async kill() {
    this.child.kill('SIGKILL')
    await this.ended
  }
}

/** Whether all threads of a process sleep. */
function sleeps(pid) {
  try {
    return readdirSync(`/proc/${pid}/task`).every((task) => {
      const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8')
      return stat.charAt(stat.lastIndexOf(')') + 2) === 'S'
    })
  } catch (error) {
    // A thread ended meanwhile.
    if (error.code !== 'ENOENT' && error.code !== 'ESRCH') throw error
    return false
  }
}

/** Waits until no thread of a process runs. */
async function asleep(pid) {
  for (const end = performance.now() + deadline; !sleeps(pid); await setTimeout(2))
    if (performance.now() > end) throw new Error(`process ${pid} does not go to sleep`)
}

export async function endAll() {
  await Promise.all([...running].map((worker) => worker.kill()))
}
