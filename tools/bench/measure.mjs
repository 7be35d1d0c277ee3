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

const shuffled = (items) =>
  items
    .map((item) => ({ item, order: Math.random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ item }) => item)

/** Calls `sample` of each contender `times` times, or once in each round; adds the results to it as `samples`. */
export async function takeTurns(contenders, rounds) {
  const taken = contenders.map((contender) => ({ times: rounds, ...contender, samples: [] }))
  // Round -1 warms up the compilers, the caches and the thread pool, without contenders that skip rounds.
  for (let round = -1; round < rounds; round += 1)
    // In random order, to vary the neighbours.
    for (const { sample, samples, times } of shuffled(taken)) {
      const until = (end) => Math.floor((end * times) / rounds)
      if (round < 0 ? times !== rounds : until(round + 1) === until(round)) continue
      const value = await sample()
      if (round >= 0) samples.push(value)
      // Pending work of a contender must not count for the next one.
      await setImmediate()
    }
  return taken
}

/** A row for each contender, with the figures that `summarize` returns for its samples and those of the first. */
export const rowsOf = (measured, summarize) =>
  measured.map(({ name, samples }) => ({ name, ...summarize(samples, measured[0].samples) }))

/** The smallest value that is not exceeded by at least `percent` of all values. */
export const percentile = (values, percent) =>
  values.toSorted((a, b) => a - b)[Math.max(0, Math.ceil((percent / 100) * values.length) - 1)]

export const median = (values) => percentile(values, 50)

/** Random moments, one from each of `count` equal parts of a span, in random order. */
export const momentsOf = ([low, high], count) =>
  shuffled(Array.from({ length: count }, (_, part) => low + ((part + Math.random()) / count) * (high - low)))
