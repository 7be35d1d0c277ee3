// The driver's side of the processes that hold and wait.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'

/** How long an answer may take, in milliseconds: far longer than the slowest contender waits. */
const patience = 60_000

/** CLOCK_MONOTONIC in nanoseconds, see `peer.mjs`. */
export const now = () => process.hrtime.bigint()

const running = new Set()
process.on('exit', () => {
  for (const peer of running) peer.child.kill('SIGKILL')
})

/** A process that is told what to do by lines, and answers by lines of a word and perhaps more. */
export class Peer {
  /** Lines that nobody has asked for yet. */
  #said = []
  #heard = () => {}
  #name

  /** @param {string[]} command */
  constructor([file, ...args]) {
    this.#name = args.join(' ')
    this.started = now()
    this.child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    running.add(this)
    this.ended = once(this.child, 'exit').then(() => {
      running.delete(this)
      this.#heard()
    })
    createInterface({ input: this.child.stdout }).on('line', (line) => {
      this.#said.push(line)
      this.#heard()
    })
    // One that was killed reads no more; its end is noticed elsewhere.
    this.child.stdin.on('error', () => {})
  }

  /** @param {string} order */
  tell(order) {
    this.child.stdin.write(`${order}\n`)
  }

  /** Whether it has said something that nobody asked for yet. */
  get hasSpoken() {
    return this.#said.length > 0
  }

  /**
   * The rest of the next line, which must begin with `word`.
   * @param {string} word
   */
  async says(word) {
    const late = new AbortController()
    const timeout = setTimeout(patience, true, { signal: late.signal }).catch(() => false)
    while (!this.hasSpoken) {
      const heard = new Promise((resolve) => {
        this.#heard = () => resolve(false)
      })
      if (!running.has(this)) throw new Error(`${this.#name} has ended and never said ${word}`)
      if (await Promise.race([heard, timeout]))
        throw new Error(`${this.#name} did not say ${word} within ${patience / 1000} s`)
    }
    late.abort()
    const line = this.#said.shift()
    if (!line.startsWith(`${word} `)) throw new Error(`${this.#name} said ${line}, not ${word}`)
    return line.slice(word.length + 1)
  }

  /** Waits until it has started. A clock that is not ours would make every latency worthless. */
  async isReady() {
    const at = BigInt(await this.says('ready'))
    if (at < this.started || at > now())
      throw new Error(`${this.#name}: its clock says ${at}, which is not from ${this.started} to ${now()}`)
    return this
  }

  /** Acquires a lock that is free. */
  async hold() {
    this.tell('hold')
    await this.says('asked')
    return BigInt(await this.says('held'))
  }

  /** Asks for a lock that is held, and waits until the process that asked has gone to sleep. */
  async waits() {
    this.tell('hold')
    await asleep(Number(await this.says('asked')))
  }

  /** The moment just before it released. */
  async release() {
    this.tell('release')
    return BigInt(await this.says('released'))
  }

  async kill() {
    this.child.kill('SIGKILL')
    await this.ended
  }
}

/** The states of a process' threads, one letter each: `S` sleeps, `R` runs. */
function states(pid) {
  const tasks = `/proc/${pid}/task`
  return readdirSync(tasks).map((task) => {
    const stat = readFileSync(`${tasks}/${task}/stat`, 'utf8')
    // A name in front of it may contain anything but the last parenthesis.
    return stat.charAt(stat.lastIndexOf(')') + 2)
  })
}

function sleeps(pid) {
  try {
    return states(pid).every((state) => state === 'S')
  } catch (error) {
    // A thread ended between the two looks.
    if (error.code !== 'ENOENT' && error.code !== 'ESRCH') throw error
    return false
  }
}

/** Waits until no thread of a process runs. */
export async function asleep(pid) {
  for (const end = performance.now() + patience; !sleeps(pid); await setTimeout(2))
    if (performance.now() > end) throw new Error(`process ${pid} does not go to sleep`)
}

/** Ends all that still run. */
export async function endAll() {
  await Promise.all([...running].map((peer) => peer.kill()))
}
