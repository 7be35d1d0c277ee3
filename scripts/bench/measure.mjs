// Taking samples, reducing them, and printing the figures.
import { setImmediate } from 'node:timers/promises'
import { Bench } from 'tinybench'

/** How long a contender runs in one round, in milliseconds: a short time, so that noise hits all of them. */
export const batch = 40

/** The mean of one batch, in nanoseconds. */
export async function measure({ name, async = false, fn }) {
  const bench = new Bench({ time: batch, iterations: 16, warmup: false, throws: true })
  bench.add(name, fn, { async })
  // `run` would put a promise around every synchronous call.
  const [task] = async ? await bench.run() : bench.runSync()
  return task.result.latency.mean * 1e6
}

/**
 * Samples every contender `times` times, or once a round.
 * @param {{ sample: () => number | Promise<number>, times?: number }[]} contenders
 * @param {number} rounds
 * @returns {Promise<number[][]>} the samples of each
 */
export async function takeTurns(contenders, rounds) {
  const samples = contenders.map(() => [])
  // The round -1 is for the compilers, the caches and the thread pool, and without those that skip rounds.
  for (let round = -1; round < rounds; round += 1) {
    for (let turn = 0; turn < contenders.length; turn += 1) {
      // Each round starts elsewhere and every other one runs backwards, so that the neighbours change.
      const step = round % 2 ? contenders.length - 1 - turn : turn
      const index = (step + Math.max(round, 0)) % contenders.length
      const { sample, times = rounds } = contenders[index]
      const until = (end) => Math.floor((end * times) / rounds)
      if (round < 0 ? times !== rounds : until(round + 1) === until(round)) continue
      const value = await sample()
      if (round >= 0) samples[index].push(value)
      // What a contender leaves to the event loop is not charged to the next one.
      await setImmediate()
    }
  }
  return samples
}

/** The smallest value that at least `percent` of all values do not exceed. */
export const percentile = (values, percent) =>
  values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil((percent / 100) * values.length) - 1)]

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
}

/** How many samples a p99 takes. */
export const enough = 200

export function spread(values) {
  const n = values.length
  const p99 = n < enough ? `n too small (${n} of ${enough})` : percentile(values, 99)
  return { n, p50: median(values), p99, max: Math.max(...values) }
}

/** Random moments, one from each of `count` equal parts of a span, in random order. */
export function momentsOf([low, high], count) {
  const moments = Array.from({ length: count }, (_, part) => ({
    at: low + ((part + Math.random()) / count) * (high - low),
    order: Math.random(),
  }))
  return moments.toSorted((a, b) => a.order - b.order).map(({ at }) => at)
}

export const whole = (value) => Math.round(value).toLocaleString('en-US')

/** Nanoseconds as microseconds. */
export const micro = (nanoseconds) =>
  (nanoseconds / 1000).toLocaleString('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 })
