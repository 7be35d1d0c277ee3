// Random numbers that depend on a seed alone.
import { createHash } from 'node:crypto'

/** Chris Doty-Humphrey's generator sfc32: each call returns a number from 0 to below 1. */
function sfc32([first, second, third, start]) {
  let [a, b, c, counter] = [first, second, third, start]
  return () => {
    const sum = (((a + b) | 0) + counter) | 0
    counter = (counter + 1) | 0
    a = b ^ (b >>> 9)
    b = (c + (c << 3)) | 0
    c = (((c << 21) | (c >>> 11)) + sum) | 0
    return (sum >>> 0) / 2 ** 32
  }
}

/**
 * The stream of random numbers with this name. Drawing from one stream does not change another one.
 * @param {string} seed
 * @param {string} name
 */
export function randomFrom(seed, name) {
  const hash = createHash('sha256').update(seed).update('\0').update(name).digest()
  const next = sfc32([0, 4, 8, 12].map((offset) => hash.readInt32LE(offset)))
  const between = (low, high) => low + next() * (high - low)
  const whole = (low, high) => Math.floor(between(low, high + 1))
  return {
    /** A number from `low` to below `high`. */
    between,
    /** A whole number from `low` to `high`. */
    whole,
    /** True with this probability. */
    chance: (probability) => next() < probability,
    pick: (choices) => choices[whole(0, choices.length - 1)],
  }
}
