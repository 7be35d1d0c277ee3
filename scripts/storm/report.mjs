// What a storm prints.
import { findFailures, isReal } from './judge.mjs'

const whole = (value) => value.toLocaleString('en-US')
const shown = 5

/** `3 native-old, 1 old-old`, or `none`. */
function listed(counts) {
  const parts = Object.entries(counts).map(([name, number]) => `${whole(number)} ${name}`)
  return parts.length > 0 ? parts.join(', ') : 'none'
}

const milliseconds = (nanoseconds) => (Number(nanoseconds) / 1e6).toFixed(3)

/** One line for two who held the lock at once, in milliseconds from the start of the storm. */
function describe({ first, second, pair, explained }, from) {
  const one = ({ worker, pid, enter, exit, outcome }) =>
    `${worker} (pid ${pid}) ${milliseconds(enter - from)} to ${milliseconds(exit - from)}, ${outcome}`
  return `    ${pair}${explained ? ' (explained)' : ''}: ${one(first)}; ${one(second)}`
}

const ofOldPeers = [
  '  An old peer removes by name whatever is at the path. Overlaps with one, and those of two others after it',
  '  removed the file that one of them held, are its own and do not fail the run.',
]
const ofControl = ['  The original must overlap here: otherwise the storm would be too weak.']

function remarks({ byKind, control }) {
  if (control) return ofControl
  return 'old' in byKind ? ofOldPeers : []
}

/** The command that plays the schedule of a run again. */
const rerun = ({ name, on, seconds, workers, seed }) =>
  `npm run storm -- --variant ${name} --on ${on} --seconds ${seconds} --workers ${workers} --seed ${seed}`

/** The figures of one run as text. */
export function report(figures) {
  const { acquisitions, byKind, kills, holdersKilled, stops, continued, terminations, takeovers } = figures
  const { pairs, refused, errorCodes, gap, overlaps, from, afterwards } = figures
  const failures = findFailures(figures)
  const terminated = terminations > 0 ? `, ${whole(terminations)} threads terminated` : ''
  const after = afterwards.error ?? `acquired in ${afterwards.milliseconds.toFixed(1)} ms`
  return [
    `  acquisitions       ${whole(acquisitions)}: ${listed(byKind)}`,
    `  kills              ${whole(kills)}, ${whole(holdersKilled)} of them of the holder${terminated}`,
    `  stops              ${whole(stops)}, ${whole(continued)} of them continued, the others killed`,
    `  takeovers          ${whole(takeovers)}`,
    `  overlaps           ${listed(pairs)}`,
    `  refused            ${whole(refused)}`,
    `  other errors       ${listed(errorCodes)}`,
    `  longest gap        ${gap.toFixed(1)} ms without an owner`,
    `  afterwards         ${after}, left behind: ${afterwards.left.join(', ') || 'nothing'}`,
    ...remarks(figures),
    ...overlaps
      .toSorted((a, b) => isReal(b) - isReal(a))
      .slice(0, shown)
      .map((overlap) => describe(overlap, from)),
    ...failures.map((failure) => `  FAILED: ${failure}`),
    ...(failures.length > 0 ? [`  rerun: ${rerun(figures)}`] : []),
  ].join('\n')
}

/** Aligned columns; all but the first two are numbers. */
function columns(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const cell = (text, column) => (column < 2 ? text.padEnd(widths[column]) : text.padStart(widths[column]))
  return rows.map((row) => `  ${row.map(cell).join('  ')}`.trimEnd()).join('\n')
}

function row(run) {
  if (run.skipped) return [run.name, run.on, 'skipped', '', '', '', '', '', '', '', '']
  const { name, on, acquisitions, kills, stops, takeovers, overlaps, refused, errors, gap } = run
  const verdict = findFailures(run).length > 0 ? 'FAILED' : 'passed'
  const numbers = [acquisitions, kills, stops, takeovers, overlaps.length, refused, errors.length].map(whole)
  return [name, on, ...numbers, gap.toFixed(0), verdict]
}

/** The table of all runs. */
export function table(runs) {
  const head = ['variant', 'on', 'acquired', 'kills', 'stops', 'taken over', 'overlaps', 'refused', 'errors']
  return columns([[...head, 'gap ms', ''], ...runs.map(row)])
}

const number = (count, what) => `${whole(count)} ${what}${count === 1 ? '' : 's'}`

/** The last lines. */
export function summary(runs) {
  const done = runs.filter(({ skipped }) => !skipped)
  const real = done.flatMap(({ overlaps }) => overlaps).filter(isReal)
  const parts = [number(done.length, 'variant'), number(real.length, 'overlap')]
  const control = done.find((run) => run.control)
  if (control) parts.push(`the original alone ${whole(control.overlaps.length)}`)
  if (done.length < runs.length) parts.push(`${runs.length - done.length} skipped`)
  for (const run of done) {
    const failures = findFailures(run)
    if (failures.length > 0) parts.push(`${run.name} on ${run.on} failed: ${failures.join('; ')}`)
  }
  return `storm: ${parts.join(', ')}\n${counts(runs)}`
}

/** As runners of tests end. */
function counts(runs) {
  const skipped = runs.filter((run) => run.skipped).length
  const failed = runs.filter((run) => !run.skipped && findFailures(run).length > 0).length
  return `${runs.length - skipped - failed} passed, ${failed} failed, ${skipped} skipped`
}
