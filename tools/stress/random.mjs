// Shared by the driver and the workers: random numbers by seed, and one clock.
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'

/** Random numbers that depend only on the names; drawing from one stream does not affect another one. */
export function randomFrom(...names) {
  let draws = 0
  const next = () => {
    draws += 1
    const hash = createHash('sha256').update([...names, draws].join('\0'))
    return hash.digest().readUInt32LE() / 2 ** 32
  }
  const between = (low, high) => low + next() * (high - low)
  const whole = (low, high) => Math.floor(between(low, high + 1))
  const pick = (choices) => choices[whole(0, choices.length - 1)]
  return { between, whole, pick, chance: (probability) => next() < probability }
}

/** CLOCK_MONOTONIC in nanoseconds; Bun's own clocks count from the start of its process. */
function bunClock() {
  const { dlopen } = createRequire(import.meta.url)('bun:ffi')
  const { symbols } = dlopen('libc.so.6', { clock_gettime: { args: ['i32', 'ptr'], returns: 'i32' } })
  const time = new BigInt64Array(2)
  return () => {
    symbols.clock_gettime(1, time)
    return time[0] * 1_000_000_000n + time[1]
  }
}

export const now = process.versions.bun ? bunClock() : () => process.hrtime.bigint()
