// Measures with several processes: the time until a waiter acquires, fairness, and the cost of waiting.
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { findOverlaps } from '../stress/judge.mjs'
import { median, momentsOf, percentile, takeTurns } from './measure.mjs'
import { period, polling, withoutLegacy } from './targets.mjs'
import { asleep, now, script, Worker } from './workers.mjs'

/** The range of delays from the waiter's sleep to the release, in milliseconds. */
export const soon = [20, 80]
/** A full period, so that each phase of a poller's sleep is equally likely. */
export const withinPeriod = [20, 20 + period]

/** How many samples a p99 needs. */
const enough = 200

/** A process that holds and one that waits; `native`: the waiter is `benches/flock.rs`. */
class Contender {
  constructor({ kind, native, wait, times, place, executable }) {
    // One more for the warm-up round.
    this.pauses = momentsOf(wait, times + 1)
    this.holderCommand = script('worker', kind, place)
    this.waiterCommand = native ? [executable, native, join(place, 'flock.lock')] : this.holderCommand
  }

  async start() {
    this.waiter = await Worker.start(this.waiterCommand)
    this.holder = await Worker.start(this.holderCommand)
    return this
  }

  async pause() {
    await setTimeout(this.pauses.pop())
    if (this.waiter.hasAnswered) throw new Error('a waiter acquired a lock that was held')
  }

  /** Nanoseconds until the waiter held the lock, which it releases. */
  async since(from) {
    const held = BigInt(await this.waiter.answer('held'))
    if (held < from) throw new Error('a waiter held the lock before its release')
    await this.waiter.release()
    return Number(held - from)
  }

  async handOver() {
    await this.holder.hold()
    await this.waiter.wait()
    await this.pause()
    return this.since(await this.holder.release())
  }

  async kill() {
    await this.holder.hold()
    await this.waiter.wait()
    // The next holder starts before the pause, while nothing is measured.
    const next = await Worker.start(this.holderCommand)
    await this.pause()
    const from = now()
    const ended = this.holder.kill()
    const [latency] = await Promise.all([this.since(from), ended])
    this.holder = next
    return latency
  }
}

/**
 * @param {'handOver' | 'kill'} act
 * @param {object[]} contenders `share`: the share of the samples for a slow one
 * @param {number} samples
 */
export async function rowsOf(act, contenders, samples) {
  const taking = []
  for (const { name, share = 1, ...about } of contenders) {
    const times = Math.max(1, Math.round(samples * share))
    const contender = await new Contender({ ...about, times }).start()
    taking.push({ name, times, sample: () => contender[act]() })
  }
  const measured = await takeTurns(taking, samples)
  return measured.map(({ name, samples }) => {
    const n = samples.length
    const p99 = n < enough ? `n too small (${n} of ${enough})` : percentile(samples, 99) / 1000
    const max = Math.max(...samples) / 1000
    return { name, n, 'p50 us': median(samples) / 1000, 'p99 us': p99, 'max us': max, samples }
  })
}

const section =
  (act, title, contenders) =>
  async ({ directory, executables, samples }) => {
    const { error, status } = spawnSync('flock', ['--version'])
    const reason = error || status !== 0 ? 'flock(1) of util-linux is not installed' : undefined
    const isPresent = ({ kind }) => kind !== 'flock' || !reason
    const placed = contenders.filter(isPresent).map((about, index) => {
      const place = join(directory, `${act}-${index}`)
      mkdirSync(place)
      return { ...about, place, executable: executables.flock }
    })
    const skipped = { n: 0, 'p50 us': reason, 'p99 us': reason, 'max us': reason }
    const absent = contenders.filter((about) => !isPresent(about)).map(({ name }) => ({ name, ...skipped }))
    return { title, rows: [...(await rowsOf(act, placed, samples)), ...absent] }
  }

const own = [
  { name: 'acquireLock', kind: 'own', wait: soon },
  { name: 'acquireLockSync', kind: 'own-sync', wait: soon },
]
const command = { name: 'flock(1)', kind: 'flock', native: 'command', wait: soon }
const poller = { name: polling, kind: 'legacy', wait: withinPeriod, share: 0.3 }
// Its first pause is 1 s. After SIGKILL it waits until the lock is stale, then for its next retry after 3 s or 7 s.
const proper = { name: 'proper-lockfile, retries: 10, stale: 2000', kind: 'proper', wait: [20, 1000] }

export const handover = section(
  'handOver',
  'from just before the release until the waiter, another process, holds the lock',
  [
    ...own,
    command,
    { name: 'flock(2), native', kind: 'flock', native: 'call', wait: soon },
    poller,
    { ...proper, share: 0.08 },
  ],
)
export const killed = section(
  'kill',
  'from just before SIGKILL of the holder, a Node.js process, until the waiter holds the lock',
  [
    ...own,
    ...own.map(({ name, kind, wait }) => ({
      name: withoutLegacy(name),
      kind: `${kind}-without-legacy`,
      wait,
    })),
    command,
    poller,
    { ...proper, share: 0.03 },
  ],
)

/** Starts `processes` processes at the same moment; each acquires `times` times. */
async function race(directory, processes, times, held) {
  mkdirSync(directory)
  const command = script('worker', 'own', directory)
  const racers = await Promise.all(Array.from({ length: processes }, () => Worker.start(command)))
  const start = now() + 200_000_000n
  const order = JSON.stringify({ start: String(start), times, held })
  const answers = await Promise.all(racers.map((racer) => racer.ask('race', order)))
  await Promise.all(racers.map((racer) => racer.kill()))
  return { start, answers: answers.map((text) => JSON.parse(text)) }
}

export async function shares(directory, held, processes, times) {
  const { start, answers } = await race(join(directory, `fairness-${held}`), processes, times, held)
  const all = answers
    .flatMap(({ moments }, process) => {
      const holds = moments.map((each) => each.map(BigInt))
      return holds.map(([asked, enter, exit]) => ({ process, asked, enter, exit }))
    })
    .sort((a, b) => (a.enter < b.enter ? -1 : 1))
  // Only the first half: a late process has the second half for itself.
  const counts = answers.map(() => 0)
  for (const { process } of all.slice(0, all.length >> 1)) counts[process] += 1
  const [largest, smallest] = [Math.max(...counts), Math.min(...counts)]
  const most = (values) => Math.max(...values.map(Number)) / 1e6
  const milliseconds = most(all.map(({ exit }) => exit - start))
  return {
    ...{
      name: `held for ${held} ms`,
      'in all ms': milliseconds,
      'us each': (milliseconds * 1000) / all.length,
    },
    'longest wait ms': most(all.map(({ asked, enter }) => enter - asked)),
    ...{ largest, smallest, ratio: largest / smallest },
    overlaps: findOverlaps(all.map((hold) => ({ ...hold, kind: 'native', outcome: 'released' }))).length,
  }
}

export async function fairness({ directory }) {
  const [processes, times] = [16, 200]
  const rows = [await shares(directory, 0, processes, times), await shares(directory, 1, processes, times)]
  const title = `${processes} processes that each acquire ${times} times, asynchronously; shares of the first half`
  return { title, rows }
}

/** The cost of a release for the waiters that are not next; all wait while the lock is held for 10 ms. */
export async function wakeups({ directory }) {
  const [few, many, times, held] = [2, 30, 40, 10]
  const busy = async (processes) => {
    const { answers } = await race(join(directory, `wakeups-${processes}`), processes, times, held)
    return answers.reduce((sum, { busy }) => sum + busy, 0) / (processes * times)
  }
  const [ofFew, ofMany] = [await busy(few), await busy(many)]
  const rows = [
    { name: `${few} processes`, 'CPU us': ofFew },
    { name: `${many} processes`, 'CPU us': ofMany },
    { name: 'each process that is not next', 'CPU us': (ofMany - ofFew) / (many - few) },
  ]
  return { title: `processor time of all for each acquisition, held for ${held} ms`, rows }
}

export async function crowd(directory, paths, waiters) {
  mkdirSync(directory)
  const command = script('worker', 'own', directory)
  const [holder, waiter] = [await Worker.start(command), await Worker.start(command)]
  await holder.ask('holdAll', paths)
  await waiter.ask('waitAll', JSON.stringify({ waiters, paths }))
  // Idle threads end within this time.
  await setTimeout(1000)
  await asleep(waiter.child.pid)
  const { settled, percent, threads } = JSON.parse(await waiter.ask('rest', 5000))
  if (settled > 0) throw new Error(`${settled} of ${waiters} calls did not wait for the holder`)
  const from = performance.now()
  await holder.ask('releaseAll')
  // Proves that the calls did wait.
  await waiter.ask('finish')
  const milliseconds = performance.now() - from
  await Promise.all([holder.kill(), waiter.kill()])
  return {
    name: `paths: ${paths}`,
    'CPU %': percent,
    'threads more': threads,
    'ms until all acquired': milliseconds,
  }
}

export async function idle({ directory }) {
  const waiters = 200
  const rows = []
  for (const paths of [1, 200]) rows.push(await crowd(join(directory, `idle-${paths}`), paths, waiters))
  return { title: `${waiters} calls of one process that wait for 5 s, asynchronously`, rows }
}
