// Takes and summarizes samples.
import { setImmediate } from 'node:timers/promises'
import { Bench } from 'tinybench'

/** The mean of a batch in nanoseconds. A batch takes only 40 ms, so that noise affects all contenders. */
export async function measure(fn, async = true) {
  const bench = new Bench({ time: 40, iterations: 16, warmup: false, throws: true })
  bench.add('contender', fn, { async })
  // `run` would wrap every synchronous call in a promise.
  const [task] = async ? await bench.run() : bench.runSync()
  return task.result.latency.mean * 1e6
}

/** Calls `sample` of each contender `times` times, or once in each round; adds the results to it as `samples`. */
export async function takeTurns(contenders, rounds) {
  const taken = contenders.map((contender) => ({ ...contender, samples: [] }))
  // Round -1 warms up the compilers, the caches and the thread pool, without contenders that skip rounds.
  for (let round = -1; round < rounds; round += 1) {
    for (let turn = 0; turn < taken.length; turn += 1) {
      // Each round starts with another contender, and every other round runs backwards, to vary the neighbours.
      const step = round % 2 ? taken.length - 1 - turn : turn
      const { sample, samples, times = rounds } = taken[(step + Math.max(round, 0)) % taken.length]
      const until = (end) => Math.floor((end * times) / rounds)
      if (round < 0 ? times !== rounds : until(round + 1) === until(round)) continue
      const value = await sample()
      if (round >= 0) samples.push(value)
      // Pending work of a contender must not count for the next one.
      await setImmediate()
    }
  }
  return taken
}

/** A row for each contender, with the figures that `summarize` returns for its samples and those of the first. */
export const rowsOf = (measured, summarize) =>
  measured.map(({ name, samples, ...about }) => ({
    name,
    ...summarize(samples, measured[0].samples, about),
    samples,
  }))

/** The smallest value that is not exceeded by at least `percent` of all values. */
export const percentile = (values, percent) =>
  values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil((percent / 100) * values.length) - 1)]

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2
}

/** Random moments, one from each of `count` equal parts of a span, in random order. */
export function momentsOf([low, high], count) {
  const moments = Array.from({ length: count }, (_, part) => ({
    at: low + ((part + Math.random()) / count) * (high - low),
    order: Math.random(),
  }))
  return moments.toSorted((a, b) => a.order - b.order).map(({ at }) => at)
}
