// Runs one stress test: starts workers, kills, stops and terminates them by the schedule, and replaces them.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { local } from '../steps.mjs'
import { now, randomFrom } from './random.mjs'

/** How long the workers may take to end by themselves, in milliseconds. */
const deadline = 10_000
/** An event that is later than this, in milliseconds, delays the rest of the schedule, which prevents a burst. */
const maxLateness = 50

const running = new Set()

// Before the directories of the workers are removed; it ends stopped ones, too.
process.prependListener('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

class StressTest {
  all = []
  /** The current workers, by place. */
  members = []
  faults = []
  counts = { kills: 0, holdersKilled: 0, stops: 0, terminations: 0 }

  constructor(about) {
    this.about = about
  }

  start(place) {
    const { mix, cwd, logs, seed } = this.about
    const { kind, execPath = process.execPath } = mix.member(place)
    const name = `w${this.all.length}`
    const setting = { ...mix, name, kind, index: place, cwd, logs, seed }
    const spawning = now()
    const env = { ...process.env, ...local }
    const options = { execPath, execArgv: [], env }
    const child = fork(join(import.meta.dirname, 'worker.mjs'), [JSON.stringify(setting)], options)
    running.add(child)
    const worker = { name, kind, place, pid: child.pid, child, isReady: false, isStopped: false }
    worker.ended = once(child, 'exit')
      .then(([code, signal]) => {
        running.delete(child)
        worker.isGone = true
        if (worker.killing === undefined && !(this.to && code === 0))
          this.faults.push(`${name} (${kind}) ended by itself: ${signal ?? `exit code ${code}`}`)
      })
      .catch((error) => this.faults.push(`${name} (${kind}): ${error.message}`))
    worker.begun = once(child, 'message').then(([{ ready }]) => {
      worker.isReady = true
      // The judgement needs the same clock in all processes.
      if (BigInt(ready) < spawning || BigInt(ready) > now())
        this.faults.push(`the clock of ${name} (${kind}) is ${ready}, before ${spawning} or after ${now()}`)
    })
    this.all.push(worker)
    this.members[place] = worker
  }

  send({ child }, message) {
    // The worker may have ended already.
    if (child.connected) child.send(message, () => {})
  }

  get present() {
    return this.members.filter(({ isReady, isGone }) => isReady && !isGone)
  }

  /** Workers that may be stopped or killed: without one, at least half still request the lock. */
  get targets() {
    const active = this.present.filter(({ isStopped }) => !isStopped).length
    return this.present.filter(({ isStopped }) => active - (isStopped ? 0 : 1) >= this.members.length / 2)
  }

  /** The target that the lock file names; reads it several times. */
  holder(targets) {
    for (let read = 0; read < 200; read += 1) {
      try {
        const { pid } = JSON.parse(readFileSync(this.about.lock, 'utf8'))
        const holder = targets.find((worker) => worker.pid === pid)
        if (holder) return holder
      } catch {
        // The lock is free, or its record is not written yet.
      }
    }
    return undefined
  }

  end(worker) {
    worker.killing = now()
    worker.child.kill('SIGKILL')
    worker.killed = now()
  }

  /** Kills a worker, mostly the holder, so that the lock becomes stale. */
  kill(place, random) {
    const holder = random.chance(0.75) ? this.holder(this.targets) : undefined
    const worker = holder ?? this.next(place, this.targets)
    if (!worker) return
    this.end(worker)
    this.counts.kills += 1
    if (holder) this.counts.holdersKilled += 1
    this.start(worker.place)
  }

  stop(place, random) {
    const lasting = random.whole(...this.about.mix.pace.stopped)
    const active = this.targets.filter(({ isStopped }) => !isStopped)
    const worker = this.next(place, active)
    if (!worker) return
    worker.isStopped = true
    worker.child.kill('SIGSTOP')
    this.counts.stops += 1
    setTimeout(() => this.continue(worker), lasting)
  }

  continue(worker) {
    worker.isStopped = false
    if (!worker.isGone) worker.child.kill('SIGCONT')
  }

  terminate(place, random) {
    const thread = random.whole(0, this.about.mix.threads - 1)
    const worker = this.next(place, this.present)
    if (!worker) return
    this.send(worker, { terminate: thread })
    this.counts.terminations += 1
  }

  /** The first worker from a place on; the first place follows the last one. */
  next(place, workers) {
    return workers.find((worker) => worker.place >= place) ?? workers[0]
  }

  passed() {
    return Number(now() - this.from) / 1e6
  }

  /**
   * Calls a method at the times that the seed and `pace` give, its range of milliseconds between two calls. Each method
   * has its own stream of random numbers.
   */
  async repeat(act, seconds) {
    const { mix, seed } = this.about
    const random = randomFrom(seed, act)
    let shift = 0
    for (let at = 0; mix.pace[act]; ) {
      at += random.whole(...mix.pace[act])
      if (at >= seconds * 1000) break
      await delay(Math.max(0, at + shift - this.passed()))
      const late = this.passed() - at - shift
      if (late > maxLateness) shift += late
      this[act](random.whole(0, mix.processes - 1), random)
    }
    await delay(Math.max(0, seconds * 1000 - this.passed()))
  }

  async run(seconds) {
    for (let place = 0; place < this.about.mix.processes; place += 1) this.start(place)
    await Promise.all(this.members.map(({ begun, ended }) => Promise.race([begun, ended])))
    this.from = now()
    await Promise.all(['kill', 'stop', 'terminate'].map((act) => this.repeat(act, seconds)))
    await this.finish()
  }

  /** Stops all workers, and waits until they have ended. */
  async finish() {
    for (const worker of this.members) if (worker.isStopped) this.continue(worker)
    this.to = now()
    for (const worker of this.members) this.send(worker, 'stop')
    const ended = Promise.all(this.all.map((worker) => worker.ended))
    if ((await Promise.race([ended, delay(deadline, 'late', { ref: false })])) !== 'late') return
    for (const worker of this.members.filter(({ isGone }) => !isGone)) {
      this.faults.push(`${worker.name} (${worker.kind}) did not end within ${deadline} ms`)
      this.end(worker)
    }
    await ended
  }
}

export async function stress({ seconds, ...about }) {
  const test = new StressTest(about)
  await test.run(seconds)
  const { all: processes, counts, faults, from, to } = test
  return { processes, ...counts, faults, from, to }
}
