// One clock for all processes and threads: CLOCK_MONOTONIC in nanoseconds.

/** Bun's own clocks count from the start of its process. */
async function systemClock() {
  const { dlopen } = await import('bun:ffi')
  const { symbols } = dlopen('libc.so.6', { clock_gettime: { args: ['i32', 'ptr'], returns: 'i32' } })
  const monotonic = 1
  const time = new BigInt64Array(2)
  return () => {
    symbols.clock_gettime(monotonic, time)
    return time[0] * 1_000_000_000n + time[1]
  }
}

/** @type {() => bigint} */
export const now = process.versions.bun ? await systemClock() : () => process.hrtime.bigint()
