// Runs one storm: starts the workers, kills, stops and continues them at random, and starts others in their place.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { root } from '../steps.mjs'
import { now } from './clock.mjs'

/** How long the workers have to end by themselves, in milliseconds. */
const patience = 10_000
/** How often a kill looks for the holder in the lock file before it takes anybody. */
const looks = 200
const workerPath = fileURLToPath(new URL('worker.mjs', import.meta.url))
const random = (low, high) => low + Math.random() * (high - low)
const pick = (choices) => choices[Math.floor(Math.random() * choices.length)]

/** Every child that runs. */
const running = new Set()

/** Ends every child, also those that are stopped. */
export function killAll() {
  for (const child of running) child.kill('SIGKILL')
}

/**
 * @typedef {object} Mix Who takes part
 * @property {(place: number) => { kind: string, execPath?: string }} member
 * @property {number} processes
 * @property {number} threads in each process; 0: the process itself does the work
 * @property {boolean} logUnlinks
 * @property {{ kill: number[], stop: number[], stopped: number[], terminate?: number[] }} pace in milliseconds
 */

class Storm {
  /** Everyone who ever took part. */
  all = []
  /** Those who take part now, by place. */
  members = []
  faults = []
  counts = { kills: 0, holdersKilled: 0, stops: 0, continued: 0, terminations: 0 }
  started = false
  over = false
  timers = new Set()

  /** @param {{ mix: Mix, lock: string, cwd: string, logs: string }} about */
  constructor(about) {
    this.about = about
  }

  /** Starts a worker in a place; it begins at once if the storm has. */
  start(place) {
    const { mix, cwd, logs } = this.about
    const { kind, execPath = process.execPath } = mix.member(place)
    const name = `w${this.all.length}`
    const { threads, logUnlinks } = mix
    const setting = { name, kind, index: place, cwd, logs, root, threads, logUnlinks }
    const spawning = now()
    const child = fork(workerPath, [JSON.stringify(setting)], { execPath, execArgv: [] })
    running.add(child)
    const worker = { name, kind, place, pid: child.pid, child, ready: false, stopped: false }
    worker.ended = once(child, 'exit')
      .then(([code, signal]) => this.onExit(worker, code, signal))
      .catch((error) => this.faults.push(`${name} (${kind}): ${error.message}`))
    worker.begun = new Promise((resolve) => {
      child.once('message', ({ ready }) => {
        this.checkClock(worker, spawning, BigInt(ready))
        worker.ready = true
        resolve()
      })
    })
    this.all.push(worker)
    this.members[place] = worker
    if (this.started) this.tell(worker, 'go')
  }

  /** A worker whose clock is another one than ours would make every judgement worthless. */
  checkClock({ name, kind }, before, stamp) {
    const after = now()
    if (stamp < before || stamp > after)
      this.faults.push(
        `the clock of ${name} (${kind}) says ${stamp}, which is not from ${before} to ${after}`,
      )
  }

  onExit(worker, code, signal) {
    running.delete(worker.child)
    worker.gone = true
    if (worker.killing !== undefined || (this.over && code === 0)) return
    this.faults.push(`${worker.name} (${worker.kind}) ended by itself: ${signal ?? `exit code ${code}`}`)
  }

  tell({ child }, message) {
    // One that was killed just now has nobody at the other end.
    if (child.connected) child.send(message, () => {})
  }

  /** Those that half of the workers could do without: somebody must go on asking for the lock. */
  get targets() {
    const here = this.members.filter(({ ready, gone }) => ready && !gone)
    const active = here.filter(({ stopped }) => !stopped).length
    return here.filter(({ stopped }) => active - (stopped ? 0 : 1) >= this.members.length / 2)
  }

  /** The one of the targets that the lock file names at some moment of a short look. */
  holder(targets) {
    for (let look = 0; look < looks; look += 1) {
      try {
        const { pid } = JSON.parse(readFileSync(this.about.lock, 'utf8'))
        const holder = targets.find((worker) => worker.pid === pid)
        if (holder) return holder
      } catch {
        // Nobody holds it, or its record is not written yet.
      }
    }
    return undefined
  }

  /** Mostly the holder, so that a stale lock is left behind. */
  kill() {
    const targets = this.targets
    const holder = Math.random() < 0.75 ? this.holder(targets) : undefined
    const worker = holder ?? pick(targets)
    if (!worker) return
    this.end(worker)
    this.counts.kills += 1
    if (holder) this.counts.holdersKilled += 1
    this.start(worker.place)
  }

  end(worker) {
    worker.killing = now()
    worker.child.kill('SIGKILL')
    worker.killed = now()
  }

  stop() {
    const worker = pick(this.targets.filter(({ stopped }) => !stopped))
    if (!worker) return
    worker.stopped = true
    worker.child.kill('SIGSTOP')
    this.counts.stops += 1
    this.later(this.about.mix.pace.stopped, () => {
      if (!worker.gone) this.counts.continued += 1
      this.continue(worker)
    })
  }

  continue(worker) {
    worker.stopped = false
    if (!worker.gone) worker.child.kill('SIGCONT')
  }

  terminate() {
    const worker = pick(this.members.filter(({ ready, gone }) => ready && !gone))
    if (!worker) return
    this.tell(worker, 'terminate')
    this.counts.terminations += 1
  }

  later([low, high], act) {
    const timer = setTimeout(
      () => {
        this.timers.delete(timer)
        act()
      },
      random(low, high),
    )
    this.timers.add(timer)
  }

  again(range, act) {
    this.later(range, () => {
      act()
      this.again(range, act)
    })
  }

  async begin() {
    const { mix } = this.about
    for (let place = 0; place < mix.processes; place += 1) this.start(place)
    await Promise.all(this.members.map(({ begun, ended }) => Promise.race([begun, ended])))
    this.started = true
    this.from = now()
    for (const worker of this.members) this.tell(worker, 'go')
    this.again(mix.pace.kill, () => this.kill())
    this.again(mix.pace.stop, () => this.stop())
    if (mix.pace.terminate) this.again(mix.pace.terminate, () => this.terminate())
  }

  /** All workers end by themselves, within bounds. */
  async finish() {
    for (const timer of this.timers) clearTimeout(timer)
    for (const worker of this.members) this.continue(worker)
    this.over = true
    this.to = now()
    for (const worker of this.members) this.tell(worker, 'stop')
    const ended = Promise.all(this.all.map((worker) => worker.ended))
    const bound = delay(patience, 'late', { ref: false })
    if ((await Promise.race([ended, bound])) !== 'late') return
    for (const worker of this.members.filter(({ gone }) => !gone)) {
      this.faults.push(`${worker.name} (${worker.kind}) did not end within ${patience / 1000} s`)
      this.end(worker)
    }
    await ended
  }
}

/**
 * @param {{ mix: Mix, lock: string, cwd: string, logs: string, seconds: number }} about
 * @param {(text: string) => void} progress
 */
export async function storm({ seconds, ...about }, progress) {
  const storm = new Storm(about)
  await storm.begin()
  for (let passed = 0; passed < seconds; ) {
    const step = Math.min(5, seconds - passed)
    await delay(step * 1000)
    passed += step
    const { kills, stops } = storm.counts
    if (passed < seconds) progress(`${passed} of ${seconds} s: ${kills} kills, ${stops} stops`)
  }
  await storm.finish()
  const { all, counts, faults, from, to } = storm
  const processes = all.map(({ name, kind, pid, killing, killed }) => ({ name, kind, pid, killing, killed }))
  return { processes, ...counts, faults, from, to }
}
