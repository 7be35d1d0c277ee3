// One contender's turn, where it can be called again and again.

/** How long one contender runs in one round, in milliseconds: short, so that a noisy spell hits all of them. */
export const batch = 40

/** The mean of one batch in nanoseconds: the floor's loop yields a mean too. */
export async function measure({ name, async, fn }) {
  const { Bench } = await import('tinybench')
  const bench = new Bench({ time: batch, iterations: 16, warmup: false, throws: true })
  bench.add(name, fn, { async })
  // `run` would put a promise around every synchronous call.
  const [task] = async ? await bench.run() : bench.runSync()
  return task.result.latency.mean * 1e6
}
