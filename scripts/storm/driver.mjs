// Runs one storm: starts the workers, kills, stops and continues them by the schedule, and starts others in their
// place.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { root } from '../steps.mjs'
import { now } from './clock.mjs'
import { nextFrom, schedule } from './schedule.mjs'

/** How long the workers have to end by themselves, in milliseconds. */
const patience = 10_000
/** How often a kill looks for the holder in the lock file before it takes anybody. */
const looks = 200
/** An event that is later than this delays the rest of the schedule, in milliseconds: it is not played in a burst. */
const maxLateness = 50
const workerPath = fileURLToPath(new URL('worker.mjs', import.meta.url))

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
  /** Each event of the schedule, when it was played, and on which worker; no worker if none was eligible. */
  played = []

  /** @param {{ mix: Mix, lock: string, cwd: string, logs: string, seed: string }} about */
  constructor(about) {
    this.about = about
  }

  /** Starts a worker in a place; it begins at once if the storm has. */
  start(place) {
    const { mix, cwd, logs, seed } = this.about
    const { kind, execPath = process.execPath } = mix.member(place)
    const name = `w${this.all.length}`
    const { threads, logUnlinks } = mix
    const setting = { name, kind, index: place, cwd, logs, root, threads, logUnlinks, seed }
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
  kill({ place, holder: prefersHolder }) {
    const targets = this.targets
    const holder = prefersHolder ? this.holder(targets) : undefined
    const worker = holder ?? nextFrom(place, targets)
    if (!worker) return undefined
    this.end(worker)
    this.counts.kills += 1
    if (holder) this.counts.holdersKilled += 1
    this.start(worker.place)
    return worker
  }

  end(worker) {
    worker.killing = now()
    worker.child.kill('SIGKILL')
    worker.killed = now()
  }

  stop({ place, lasting }) {
    const targets = this.targets.filter(({ stopped }) => !stopped)
    const worker = nextFrom(place, targets)
    if (!worker) return undefined
    worker.stopped = true
    worker.child.kill('SIGSTOP')
    this.counts.stops += 1
    const timer = setTimeout(() => {
      this.timers.delete(timer)
      if (!worker.gone) this.counts.continued += 1
      this.continue(worker)
    }, lasting)
    this.timers.add(timer)
    return worker
  }

  continue(worker) {
    worker.stopped = false
    if (!worker.gone) worker.child.kill('SIGCONT')
  }

  terminate({ place, thread }) {
    const targets = this.members.filter(({ ready, gone }) => ready && !gone)
    const worker = nextFrom(place, targets)
    if (!worker) return undefined
    this.tell(worker, { terminate: thread })
    this.counts.terminations += 1
    return worker
  }

  /** Milliseconds since the start. */
  get passed() {
    return Number(now() - this.from) / 1e6
  }

  /** Plays each event at its time. */
  async play(events) {
    let shift = 0
    for (const event of events) {
      await delay(Math.max(0, event.at + shift - this.passed))
      const late = this.passed - event.at - shift
      if (late > maxLateness) shift += late
      const played = Math.round(this.passed)
      const worker = this[event.act](event)
      this.played.push({ ...event, played, worker: worker?.name })
    }
  }

  async begin() {
    const { mix } = this.about
    for (let place = 0; place < mix.processes; place += 1) this.start(place)
    await Promise.all(this.members.map(({ begun, ended }) => Promise.race([begun, ended])))
    this.started = true
    this.from = now()
    for (const worker of this.members) this.tell(worker, 'go')
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
 * The schedule as it was played is in the directory of the logs, one event per line.
 * @param {{ mix: Mix, lock: string, cwd: string, logs: string, seed: string, seconds: number }} about
 * @param {(text: string) => void} progress
 */
export async function storm({ seconds, ...about }, progress) {
  const storm = new Storm(about)
  await storm.begin()
  const playing = storm.play(schedule(about.seed, about.mix, seconds))
  for (let passed = 0; passed < seconds; ) {
    const step = Math.min(5, seconds - passed)
    await delay(step * 1000)
    passed += step
    const { kills, stops } = storm.counts
    if (passed < seconds) progress(`${passed} of ${seconds} s: ${kills} kills, ${stops} stops`)
  }
  await playing
  await storm.finish()
  const lines = storm.played.map((event) => `${JSON.stringify(event)}\n`)
  writeFileSync(join(about.logs, 'schedule.jsonl'), lines.join(''))
  const { all, counts, faults, from, to } = storm
  const processes = all.map(({ name, kind, pid, killing, killed }) => ({ name, kind, pid, killing, killed }))
  return { processes, ...counts, faults, from, to }
}
