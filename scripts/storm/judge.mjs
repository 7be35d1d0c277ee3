// What the logs mean: who held the lock at the same time, and what a run must not show. Pure functions.

/**
 * @typedef {object} Interval The critical section of one holder, in nanoseconds of CLOCK_MONOTONIC
 * @property {string} worker
 * @property {string} kind
 * @property {number} pid
 * @property {bigint} since not before the lock was its own
 * @property {bigint} enter after it acquired
 * @property {bigint} exit before it released or was killed
 * @property {bigint} gone when nobody held the lock because of it any more: `exit`, or after it was killed
 * @property {boolean} takenOver
 * @property {'released' | 'lost' | 'unknown'} outcome
 *
 * @typedef {{ begin: bigint, end: bigint }} Span when an old peer removed what was at the path
 * @typedef {{ first: Interval, second: Interval, pair: string, explained: boolean }} Overlap
 * @typedef {{ kind: string, during: 'acquire' | 'release', code: string, message: string }} LoggedError
 */

/** The longest time without an owner while workers ask, in milliseconds. */
export const longestAllowed = 2500

const byValue = (a, b) => (a < b ? -1 : a > b ? 1 : 0)
const byEnter = (a, b) => byValue(a.enter, b.enter)
// `Math.max` takes no BigInt.
const later = (a, b) => (byValue(a, b) > 0 ? a : b)
const earlier = (a, b) => (byValue(a, b) < 0 ? a : b)
const isOld = ({ kind }) => kind === 'old'

/**
 * Whether an old peer, which removes files by name, removed the lock of one of two holders before the other one
 * entered. A holder that released found its own file in its place: nobody removed that.
 * @param {Interval} first
 * @param {Interval} second
 * @param {Span[]} unlinks
 */
export function isExplained(first, second, unlinks) {
  if (isOld(first) || isOld(second)) return false
  const removed = (one, other) =>
    one.outcome !== 'released' && unlinks.some(({ begin, end }) => end > one.since && begin < other.enter)
  return removed(first, second) || removed(second, first)
}

/**
 * Every two intervals that have more than a moment in common.
 * @param {Interval[]} intervals
 * @param {Span[]} unlinks
 * @returns {Overlap[]}
 */
export function findOverlaps(intervals, unlinks = []) {
  const found = []
  let inside = []
  for (const second of intervals.toSorted(byEnter)) {
    inside = inside.filter((first) => first.exit > second.enter)
    for (const first of inside) {
      // Two that enter in the same nanosecond and leave at once have nothing in common.
      if (second.exit <= first.enter) continue
      const pair = [first.kind, second.kind].sort().join('-')
      found.push({ first, second, pair, explained: isExplained(first, second, unlinks) })
    }
    inside.push(second)
  }
  return found
}

/**
 * The longest time between `from` and `to` in which nobody held the lock, in milliseconds.
 * @param {Interval[]} intervals
 * @param {bigint} from
 * @param {bigint} to
 */
export function longestGap(intervals, from, to) {
  let longest = 0n
  let covered = from
  for (const { enter, gone } of intervals.toSorted(byEnter)) {
    longest = later(longest, earlier(enter, to) - covered)
    covered = later(covered, gone)
  }
  return Number(later(longest, to - covered)) / 1e6
}

/** Counts `items` by what `name` says of each. */
export function count(items, name) {
  const counts = {}
  for (const item of items) counts[name(item)] = (counts[name(item)] ?? 0) + 1
  return counts
}

/**
 * The figures of a run.
 * @param {{ intervals: Interval[], unlinks: Span[], errors: LoggedError[], from: bigint, to: bigint }} run
 */
export function judge(run) {
  const overlaps = findOverlaps(run.intervals, run.unlinks)
  return {
    ...run,
    acquisitions: run.intervals.length,
    byKind: count(run.intervals, ({ kind }) => kind),
    takeovers: run.intervals.filter(({ takenOver }) => takenOver).length,
    overlaps,
    pairs: count(overlaps, ({ pair, explained }) =>
      explained ? `${pair} after an old peer's unlink` : pair,
    ),
    errorCodes: count(run.errors, ({ kind, during, code }) => `${kind} ${during} ${code}`),
    gap: longestGap(run.intervals, run.from, run.to),
  }
}

/** Whether an overlap is the fault of this package. */
export const isReal = ({ first, second, explained }) => !explained && !isOld(first) && !isOld(second)

const some = (number, what) => `${number} ${what}${number === 1 ? '' : 's'}`

/** The lock of one who shares it with old peers may be removed by them. */
const isDocumented = ({ kind, during, code }, withOld) =>
  isOld({ kind }) || (withOld && during === 'release' && code === 'E_LOCK_LOST')

/** What the original alone must show. */
function controlFailures({ overlaps }) {
  return overlaps.length > 0
    ? []
    : ['the original alone showed no overlap: this storm is too weak to prove anything']
}

function lockFailures({ overlaps, errors, gap, byKind, afterwards }) {
  const failures = []
  const real = overlaps.filter(isReal)
  if (real.length > 0) failures.push(some(real.length, 'overlap'))
  const wrong = errors.filter((error) => !isDocumented(error, 'old' in byKind))
  for (const [what, number] of Object.entries(count(wrong, ({ code, message }) => `${code} (${message})`)))
    failures.push(`${number} times ${what}`)
  if (gap > longestAllowed) failures.push(`nobody held the lock for ${Math.round(gap)} ms`)
  if (afterwards.error) failures.push(`afterwards it cannot be acquired: ${afterwards.error}`)
  if (afterwards.left.length > 0) failures.push(`left behind: ${afterwards.left.join(', ')}`)
  return failures
}

/** Why a run fails, in words; none if it passes. */
export function findFailures(figures) {
  const failures = figures.control ? controlFailures(figures) : lockFailures(figures)
  if (figures.acquisitions === 0) failures.push('nobody acquired the lock')
  return [...figures.faults, ...failures]
}

/** @param {object[]} runs figures of all runs, of which those that were skipped say so */
export const exitCode = (runs) => (runs.some((run) => !run.skipped && findFailures(run).length > 0) ? 1 : 0)
