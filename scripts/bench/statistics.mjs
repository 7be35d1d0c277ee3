// What samples amount to. Pure functions.
import { findOverlaps } from '../storm/judge.mjs'

/** @param {number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/**
 * The smallest value that at least `percent` of all values do not exceed.
 * @param {number[]} values
 * @param {number} percent
 */
export function percentile(values, percent) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]
}

/** How many values a p99 takes to be more than the name of the largest ones. */
export const enough = 200

/**
 * @typedef {object} Spread
 * @property {number} n
 * @property {number} p50
 * @property {number | string} p99 or why there is none
 * @property {number} max
 */

/**
 * @param {number[]} values
 * @returns {Spread}
 */
export function spread(values) {
  const n = values.length
  const p99 = n < enough ? `n too small (${n} of ${enough})` : percentile(values, 99)
  return { n, p50: median(values), p99, max: Math.max(...values) }
}

/**
 * Random moments of a span, one from each of as many equal parts, in random order: so few samples meet a sleeper
 * of that period at all of its phases alike.
 * @param {number[]} span
 * @param {number} count
 */
export function momentsOf([low, high], count) {
  const moments = Array.from({ length: count }, (_, part) => ({
    at: low + ((part + Math.random()) / count) * (high - low),
    order: Math.random(),
  }))
  return moments.toSorted((a, b) => a.order - b.order).map(({ at }) => at)
}

/**
 * @typedef {{ enter: bigint, exit: bigint }} Hold by CLOCK_MONOTONIC
 */

/**
 * How the first half of all holds is shared out: a process that comes late has the second half to itself.
 * @param {Hold[][]} holds of each process
 * @returns {{ counts: number[], ratio: number }} what each process had; the largest count by the smallest
 */
export function shares(holds) {
  const all = holds.flatMap((own, process) => own.map(({ enter }) => ({ process, enter })))
  all.sort((a, b) => (a.enter < b.enter ? -1 : a.enter > b.enter ? 1 : 0))
  const counts = holds.map(() => 0)
  for (const { process } of all.slice(0, all.length >> 1)) counts[process] += 1
  // Infinite if somebody had nothing.
  return { counts, ratio: Math.max(...counts) / Math.min(...counts) }
}

/**
 * How often two held the lock at once.
 * @param {Hold[]} holds
 */
export const countOverlaps = (holds) =>
  findOverlaps(holds.map((hold) => ({ ...hold, kind: 'native', outcome: 'released' }))).length
