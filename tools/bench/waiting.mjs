// Measures with several processes: the time until a waiter acquires, fairness, and the cost of waiting.
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { findOverlaps } from '../stress/verify.mjs'
import { median, momentsOf, percentile, rowsOf, takeTurns } from './measure.mjs'
import { period, polling, withoutLegacy } from './targets.mjs'
import { command, makePlace, now, Worker } from './workers.mjs'

/** The range of delays from the waiter's sleep to the release, in milliseconds. */
export const soon = [20, 80]
/** A full period, so that each phase of a poller's sleep is equally likely. */
export const withinPeriod = [20, 20 + period]

/** How many samples a p99 needs. */
const enough = 200

/**
 * Starts a holder and a waiter. Returns a function that measures the nanoseconds from the release, or from SIGKILL of
 * the holder, until the waiter holds the lock. `native`: the waiter is `benches/flock.rs`.
 */
async function startPair({ kind, native, isKilled, wait, place }, times) {
  // One more for the warm-up round.
  const pauses = momentsOf(wait, times + 1)
  const waiter = await Worker.start(native ? [...native, join(place, 'flock.lock')] : command(kind, place))
  let holder = await Worker.start(command(kind, place))
  return async () => {
    await holder.hold()
    await waiter.wait()
    // The next holder starts before the pause, while nothing is measured.
    const next = isKilled ? await Worker.start(command(kind, place)) : holder
    await setTimeout(pauses.pop())
    const from = isKilled ? now() : await holder.release()
    const ended = isKilled ? holder.kill() : undefined
    const held = BigInt(await waiter.answer('held'))
    if (held < from) throw new Error('a waiter held the lock before its release')
    await waiter.release()
    await ended
    holder = next
    return Number(held - from)
  }
}

/** A row for each contender; a slow one takes `share` of the samples. */
export async function latencies(contenders, samples) {
  const pairs = []
  for (const { name, share = 1, ...about } of contenders) {
    const times = Math.max(1, Math.round(samples * share))
    pairs.push({ name, times, sample: await startPair(about, times) })
  }
  return rowsOf(await takeTurns(pairs, samples), (values) => {
    const n = values.length
    const p99 = n < enough ? `n too small (${n} of ${enough})` : percentile(values, 99) / 1000
    return { n, 'p50 us': median(values) / 1000, 'p99 us': p99, 'max us': Math.max(...values) / 1000 }
  })
}

const section =
  (title, contenders, { isKilled = false } = {}) =>
  async ({ directory, executables, samples }) => {
    const placed = contenders.map(({ native, ...about }) => ({
      ...{ ...about, isKilled, place: makePlace(directory) },
      native: native && [executables.flock, native],
    }))
    return { title, rows: await latencies(placed, samples) }
  }

const own = [
  { name: 'acquireLock', kind: 'own', wait: soon },
  { name: 'acquireLockSync', kind: 'own-sync', wait: soon },
]
const flock = { name: 'flock(1)', kind: 'flock', native: 'command', wait: soon }
const poller = { name: polling, kind: 'legacy', wait: withinPeriod, share: 0.3 }
// Its first pause is 1 s. After SIGKILL it waits until the lock is stale, then for its next retry after 3 s or 7 s.
const proper = { name: 'proper-lockfile, retries: 10, stale: 2000', kind: 'proper', wait: [20, 1000] }

export const handover = section(
  'from just before the release until the waiter, another process, holds the lock',
  [
    ...own,
    flock,
    { name: 'flock(2), native', kind: 'flock', native: 'call', wait: soon },
    poller,
    { ...proper, share: 0.08 },
  ],
)
export const killed = section(
  'from just before SIGKILL of the holder, a Node.js process, until the waiter holds the lock',
  [
    ...own,
    ...own.map(({ name, kind }) => ({
      ...{ name: withoutLegacy(name), kind: `${kind}-without-legacy`, wait: soon },
    })),
    flock,
    poller,
    { ...proper, share: 0.03 },
  ],
  { isKilled: true },
)

/** Starts `processes` processes at the same moment; each acquires `times` times. */
async function race(directory, processes, times, held) {
  const racer = command('own', makePlace(directory))
  const racers = await Promise.all(Array.from({ length: processes }, () => Worker.start(racer)))
  const start = now() + 200_000_000n
  const order = { start: String(start), times, held }
  const answers = await Promise.all(racers.map((racer) => racer.ask('race', order)))
  await Promise.all(racers.map((racer) => racer.kill()))
  return { start, answers }
}

export async function shares(directory, held, processes, times) {
  const { start, answers } = await race(directory, processes, times, held)
  const holds = answers.flatMap(({ moments }, process) =>
    moments.map((each) => {
      const [asked, enter, exit] = each.map(BigInt)
      return { process, asked, enter, exit, kind: 'native', outcome: 'released' }
    }),
  )
  const all = holds.sort((a, b) => (a.enter < b.enter ? -1 : 1))
  // Only the first half: a late process has the second half for itself.
  const counts = answers.map(() => 0)
  for (const { process } of all.slice(0, all.length >> 1)) counts[process] += 1
  const [largest, smallest] = [Math.max(...counts), Math.min(...counts)]
  const most = (values) => Math.max(...values.map(Number)) / 1e6
  const milliseconds = most(all.map(({ exit }) => exit - start))
  return {
    'in all ms': milliseconds,
    'us each': (milliseconds * 1000) / all.length,
    'per second': (all.length * 1000) / milliseconds,
    'longest wait ms': most(all.map(({ asked, enter }) => enter - asked)),
    ...{ largest, smallest, ratio: largest / smallest },
    overlaps: findOverlaps(all).length,
  }
}

export async function fairness({ directory }) {
  const [processes, times] = [16, 200]
  const rows = []
  for (const held of [0, 1])
    rows.push({ name: `held for ${held} ms`, ...(await shares(directory, held, processes, times)) })
  const title = `${processes} processes that each acquire ${times} times, asynchronously; shares of the first half`
  return { title, rows }
}

/** The cost of a release for the waiters that are not next; all wait while the lock is held for 10 ms. */
export async function wakeups({ directory }) {
  const [few, many, times, held] = [2, 30, 40, 10]
  const busy = async (processes) => {
    const { answers } = await race(directory, processes, times, held)
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

/** The cost of `waiters` calls of one process that wait for `paths` paths. */
export async function crowd(directory, paths, waiters) {
  const place = makePlace(directory)
  const [holder, waiter] = [
    await Worker.start(command('own', place)),
    await Worker.start(command('own', place)),
  ]
  await holder.ask('holdAll', paths)
  const { settled, ...cost } = await waiter.ask('waitAll', { waiters, paths })
  if (settled > 0) throw new Error(`${settled} of ${waiters} calls did not wait for the holder`)
  const from = performance.now()
  await holder.ask('releaseAll')
  // Proves that the calls did wait.
  await waiter.ask('finish')
  const us = (performance.now() - from) * 1000
  await Promise.all([holder.kill(), waiter.kill()])
  return { ...cost, 'us each': us / waiters }
}

export async function idle({ directory }) {
  const waiters = 200
  const rows = []
  for (const paths of [1, 200])
    rows.push({ name: `paths: ${paths}`, ...(await crowd(directory, paths, waiters)) })
  return { title: `${waiters} calls of one process that wait for 5 s, asynchronously`, rows }
}
