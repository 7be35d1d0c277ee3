// Checks the logs for overlaps of holders and for other failures of a run.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

// An interval is the critical section of one holder, in nanoseconds of CLOCK_MONOTONIC:
//   since    the earliest moment at which it may have held the lock
//   enter    a moment after it acquired
//   exit     a moment before it released or was killed
//   gone     when the lock was free again: `exit`, or a moment after the kill
//   path     the file of its slot; a legacy worker has the first one
//   outcome  released, lost or unknown

/** The events of a log, without the last line, which a kill may have torn. */
const readLog = (path) =>
  readFileSync(path, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const { at = 0, since = 0, ...event } = JSON.parse(line)
      return { ...event, at: BigInt(at), since: BigInt(since) }
    })

/** `killing` and `killed` enclose the kill of the worker. */
function intervalsOf(events, about, { killing, killed } = {}) {
  const intervals = []
  let open
  let left
  for (const { event, at, since, takenOver, path, shared, during, code } of events) {
    // The event after an exit shows the outcome of the release.
    if (left && (event === 'error' || event === 'enter' || event === 'refused' || event === 'end')) {
      const failed = code === 'E_LOCK_LOST' ? 'lost' : 'unknown'
      left.outcome = event === 'error' && during === 'release' ? failed : 'released'
      left = undefined
    }
    if (event === 'enter') {
      if (open) throw new Error(`${about.worker} entered twice`)
      open = { ...about, since, enter: at, exit: at, gone: at, takenOver, path, shared, outcome: 'unknown' }
      intervals.push(open)
    } else if (event === 'exit') {
      left = Object.assign(open, { exit: at, gone: at })
      open = undefined
    }
  }
  // It held the lock until the kill. A worker that entered after `killing` was killed at that moment.
  if (open && killing > open.enter) open.exit = killing
  if (open && killed > open.exit) open.gone = killed
  return intervals
}

/** A worker that was killed during a removal may have removed the file until its end. */
function unlinksOf(events, { killed } = {}) {
  const spans = []
  for (const { event, at } of events) {
    if (event === 'unlink') spans.push({ begin: at, end: killed ?? at })
    else if (event === 'unlinked') spans.at(-1).end = at
  }
  return spans
}

/** Reads all logs in a directory: that of a process is `NAME.log`, those of its threads are `NAME.0.log` and so on. */
export function collect(logs, processes) {
  const all = readdirSync(logs).map((file) => {
    return { name: basename(file, '.log'), events: readLog(join(logs, file)) }
  })
  const terminated = new Map()
  for (const { event, at, thread } of all.flatMap(({ events }) => events)) {
    if (event === 'terminate') terminated.set(thread, { killing: at, killed: at })
    else if (event === 'terminated') terminated.get(thread).killed = at
  }
  const run = { intervals: [], unlinks: [], errors: [], refused: 0 }
  for (const { name, events } of all) {
    const { kind, pid, ...owner } = processes.find((each) => each.name === name.split('.')[0])
    const own = terminated.get(name)
    // A thread ends by itself or with its process, whichever comes first.
    const end = own && !(owner.killing < own.killing) ? own : owner
    run.intervals.push(...intervalsOf(events, { worker: name, kind, pid }, end))
    run.unlinks.push(...unlinksOf(events, end))
    for (const { event, count, code, during, message } of events) {
      if (event === 'refused') run.refused += count
      else if (event === 'error') run.errors.push({ kind, during, code, message })
    }
  }
  return run
}

/** The longest time without an owner while workers request the lock, in milliseconds. */
export const longestAllowed = 2500
const byEnter = (a, b) => (a.enter < b.enter ? -1 : a.enter > b.enter ? 1 : 0)
const isLegacy = ({ kind }) => kind === 'legacy'

/**
 * Whether a legacy worker, which removes files by name, removed the lock of one of two holders before the other one
 * entered. A holder that released found its own file in its place.
 */
function isExplained(first, second, unlinks) {
  const removed = (one, other) =>
    one.outcome !== 'released' && unlinks.some(({ begin, end }) => end > one.since && begin < other.enter)
  return !isLegacy(first) && !isLegacy(second) && (removed(first, second) || removed(second, first))
}

/** All pairs of intervals that overlap for more than a moment. `unlinks`: when legacy workers removed the file. */
export function findOverlaps(intervals, unlinks = []) {
  const found = []
  let inside = []
  for (const second of intervals.toSorted(byEnter)) {
    inside = inside.filter((first) => first.exit > second.enter)
    for (const first of inside) {
      if (first.path !== second.path && first.path && second.path) continue
      if (first.shared && second.shared) continue
      // Two empty intervals in the same nanosecond do not overlap.
      if (second.exit <= first.enter) continue
      const pair = [first.kind, second.kind].sort().join('-')
      found.push({ first, second, pair, explained: isExplained(first, second, unlinks) })
    }
    inside.push(second)
  }
  return found
}

/** The longest time between `from` and `to` in which no worker held the lock, in milliseconds. */
export function longestGap(intervals, from, to) {
  let longest = 0n
  let covered = from
  const until = intervals.filter(({ enter }) => enter < to).toSorted(byEnter)
  for (const { enter, gone } of [...until, { enter: to, gone: to }]) {
    if (enter - covered > longest) longest = enter - covered
    if (gone > covered) covered = gone
  }
  return Number(longest) / 1e6
}

/** The largest number of intervals that overlap at one moment. */
export function mostAtOnce(intervals) {
  let most = 0
  let inside = []
  for (const interval of intervals.toSorted(byEnter)) {
    inside = [...inside.filter(({ exit }) => exit > interval.enter), interval]
    most = Math.max(most, inside.length)
  }
  return most
}

export function count(items, name) {
  const counts = {}
  for (const item of items) counts[name(item)] = (counts[name(item)] ?? 0) + 1
  return counts
}

/** Whether an overlap is the fault of this package. */
export const isReal = ({ first, second, explained }) => !explained && !isLegacy(first) && !isLegacy(second)

/** Why a run fails; empty if it passes. `control`: the run is of a lock that is known to be broken. */
export function findFailures(run) {
  const { intervals, unlinks, errors, from, to, faults, control, afterwards, atOnce = 0 } = run
  const { kills, terminations, terminates } = run
  const overlaps = findOverlaps(intervals, unlinks)
  const failures = [...faults]
  if (intervals.length === 0) failures.push('no worker acquired the lock')
  if (control) {
    if (overlaps.length === 0) failures.push('the legacy lock showed no overlap: this test proves nothing')
    return failures
  }
  if (kills === 0) failures.push('no worker was killed: this test proves nothing')
  if (intervals.length > 0 && !intervals.some(({ takenOver }) => takenOver))
    failures.push('no lock was taken over: this test proves nothing')
  if (terminates && terminations === 0) failures.push('no thread was terminated: this test proves nothing')
  const real = overlaps.filter(isReal).length
  if (real > 0) failures.push(`${real} overlaps`)
  // Legacy workers may remove the lock of another worker.
  const withLegacy = intervals.some(isLegacy)
  const wrong = errors.filter(
    ({ kind, during, code }) =>
      kind !== 'legacy' && !(withLegacy && during === 'release' && code === 'E_LOCK_LOST'),
  )
  for (const [error, times] of Object.entries(count(wrong, ({ code, message }) => `${code} (${message})`)))
    failures.push(`${times} times ${error}`)
  const gap = longestGap(intervals, from, to)
  if (mostAtOnce(intervals) < atOnce) failures.push(`never ${atOnce} at once: this test proves nothing`)
  if (gap > longestAllowed) failures.push(`no worker held the lock for ${Math.round(gap)} ms`)
  if (afterwards.error) failures.push(`afterwards it cannot be acquired: ${afterwards.error}`)
  if (afterwards.left.length > 0) failures.push(`left: ${afterwards.left.join(', ')}`)
  return failures
}
