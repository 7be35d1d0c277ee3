// Turns the logs of a run into intervals.
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { readLog } from './log.mjs'

/**
 * @typedef {object} Process
 * @property {string} name its log is `name.log`, those of its threads are `name.0.log` and so on
 * @property {string} kind
 * @property {number} pid
 * @property {bigint} [killing] just before it was killed
 * @property {bigint} [killed] just after it was killed
 */

/** How a hold ends by the event that follows its exit; none of these says nothing yet. */
function outcomeBy({ event, during, code }) {
  if (event === 'error' && during === 'release') return code === 'E_LOCK_LOST' ? 'lost' : 'unknown'
  return event === 'enter' || event === 'refused' || event === 'error' ? 'released' : undefined
}

/**
 * The intervals of one log. `killing` and `killed` enclose the kill of its worker, if there was one.
 * @param {{ worker: string, kind: string, pid: number }} about
 * @returns {import('./judge.mjs').Interval[]}
 */
export function intervalsOf(events, about, { killing, killed } = {}) {
  const intervals = []
  let open
  let left
  for (const event of events) {
    const outcome = left && outcomeBy(event)
    if (outcome) {
      left.outcome = outcome
      left = undefined
    }
    if (event.event === 'enter') {
      if (open) throw new Error(`${about.worker} entered twice`)
      const { at: enter, since, takenOver } = event
      open = { ...about, since, enter, exit: enter, gone: enter, takenOver, outcome: 'unknown' }
      intervals.push(open)
    } else if (event.event === 'exit') {
      left = Object.assign(open, { exit: event.at, gone: event.at })
      open = undefined
    }
  }
  // It held until it was killed. One that entered after the first stamp was killed in that moment.
  if (open && killing > open.enter) open.exit = killing
  if (open && killed > open.exit) open.gone = killed
  // Whether it released is not known of one that was killed after its exit.
  if (left && killing === undefined) left.outcome = 'released'
  return intervals
}

/** What old peers removed; one that was killed on the way may have done so until then. */
function unlinksOf(events, { killed } = {}) {
  const spans = []
  for (const { event, at } of events) {
    if (event === 'unlink') spans.push({ begin: at, end: killed ?? at })
    else if (event === 'unlinked') spans.at(-1).end = at
  }
  return spans
}

/** A thread ends by itself or with its process, whichever comes first. */
function endOf(name, owner, ends) {
  const end = ends.get(name)
  return end && !(owner.killing < end.killing) ? end : owner
}

function endsOfThreads(events) {
  const ends = new Map()
  for (const { event, at, thread } of events) {
    if (event === 'end') ends.set(thread, { killing: at, killed: at })
    else if (event === 'ended') ends.get(thread).killed = at
  }
  return ends
}

/**
 * Everything that the logs in a directory say.
 * @param {string} logs
 * @param {Process[]} processes
 */
export function collect(logs, processes) {
  const owners = new Map(processes.map((owner) => [owner.name, owner]))
  const all = readdirSync(logs)
    .filter((file) => file.endsWith('.log'))
    .map((file) => ({ name: file.slice(0, -4), events: readLog(join(logs, file)) }))
  const ends = endsOfThreads(all.flatMap(({ events }) => events))
  const run = { intervals: [], unlinks: [], errors: [], refused: 0 }
  for (const { name, events } of all) {
    const owner = owners.get(name.split('.')[0])
    const end = endOf(name, owner, ends)
    run.intervals.push(...intervalsOf(events, { worker: name, kind: owner.kind, pid: owner.pid }, end))
    run.unlinks.push(...unlinksOf(events, end))
    for (const event of events) {
      if (event.event === 'refused') run.refused += event.count
      if (event.event !== 'error') continue
      if (event.code === 'E_LOCK_CONTENTION' && event.during === 'acquire') run.refused += 1
      else run.errors.push({ ...event, kind: owner.kind })
    }
  }
  return run
}
