// What is to be reached. Pure functions.
import { pollingName, postgresFlushed, postgresPollingName, withoutLegacy } from './waits.mjs'

/**
 * @typedef {object} Target
 * @property {string} section
 * @property {string} name
 * @property {string[]} [media] default: where the section runs
 * @property {string} of a figure of the section
 * @property {string} [to] another one, to divide by
 * @property {number} [most] the largest value that reaches it
 * @property {number} [least] the smallest one
 * @property {number} [below] the smallest one that does not
 *
 * @typedef {Record<string, number | string>} Figures numbers, or why there is none
 * @typedef {Record<string, Record<string, Figures>>} Measured by section and medium
 */

const own = ['acquireLock', 'acquireLockSync']

/** @type {Target[]} */
const pairs = [
  {
    name: 'sync pair <= 1.6 x floor',
    of: 'pair acquireLockSync',
    to: 'floor',
    most: 1.6,
  },
  {
    name: 'refused sync <= 1.0 x floor',
    of: 'refused acquireLockSync',
    to: 'floor',
    most: 1,
  },
  { name: 'async pair <= 8 x floor', media: ['tmpfs'], of: 'pair acquireLock', to: 'floor', most: 8 },
  {
    name: "async pair <= 0.6 x original's",
    of: 'pair acquireLock',
    to: 'pair original (TypeScript)',
    most: 0.6,
  },
  {
    name: 'sync pair >= 2 x faster than proper-lockfile sync',
    of: 'pair proper-lockfile sync',
    to: 'pair acquireLockSync',
    least: 2,
  },
].map((target) => ({ section: 'pairs', media: ['tmpfs', 'disk'], ...target }))

/** @type {Target[]} */
const waits = own.flatMap((name) => [
  {
    section: 'handover',
    name: `${name} hand-over p50 <= 3 x flock(1)`,
    of: `${name} p50`,
    to: 'flock(1) p50',
    most: 3,
  },
  {
    section: 'handover',
    name: `${name} hand-over p50 >= 50 x better than polling`,
    of: `${pollingName} p50`,
    to: `${name} p50`,
    least: 50,
  },
  { section: 'killed', name: `${name} after SIGKILL p99 < 20 ms`, of: `${name} p99 ms`, below: 20 },
  {
    section: 'killed',
    name: `${withoutLegacy(name)}, after SIGKILL p50 < 4 ms`,
    of: `${withoutLegacy(name)} p50 ms`,
    below: 4,
  },
])

/** @type {Target[]} */
const crowds = [
  ...[0, 1].flatMap((held) => [
    {
      section: 'fairness',
      name: `held for ${held} ms: largest share <= 3 x smallest`,
      of: `share ${held}`,
      most: 3,
    },
    { section: 'fairness', name: `held for ${held} ms: no overlaps`, of: `overlaps ${held}`, most: 0 },
  ]),
  {
    section: 'diagnostics',
    name: 'nobody listens <= 1.05 x without channels',
    of: 'nobody listens',
    to: 'without channels',
    most: 1.05,
  },
  {
    section: 'diagnostics',
    name: 'nobody listens: nothing computed',
    of: 'computed for nobody',
    most: 0,
  },
  ...[1, 200].flatMap((paths) => [
    { section: 'idle', name: `200 waiters, paths: ${paths}, CPU < 1 %`, of: `percent ${paths}`, below: 1 },
    { section: 'idle', name: `200 waiters, paths: ${paths}, threads <= +2`, of: `threads ${paths}`, most: 2 },
  ]),
]

/** @type {Target[]} */
const starts = [{ section: 'load', name: 'require adds <= 5 ms', of: 'added reconcile-lock', most: 5 }]

/** @type {Target[]} */
const databases = [
  {
    name: 'acquireLock pair <= 6 x two statements with a row updated',
    of: 'acquireLock + release',
    to: postgresFlushed,
    most: 6,
  },
  {
    name: 'acquireLock hand-over p50 >= 20 x better than polling',
    of: `${postgresPollingName} p50`,
    to: 'acquireLock p50',
    least: 20,
  },
].map((target) => ({ section: 'postgres', ...target }))

export const targets = [...pairs, ...waits, ...crowds, ...starts, ...databases]

/** @param {Figures} figures */
function compare({ of, to, most, least, below }, figures) {
  const values = [of, to].filter((row) => row !== undefined).map((row) => figures[row])
  const reason = values.find((value) => typeof value === 'string')
  if (reason !== undefined) return { verdict: 'skipped', reason }
  const [measured] = values.map((value, index) => (index === 0 ? value / (values[1] ?? 1) : value))
  // A figure that nobody measured would be neither: a target that is never missed is none.
  if (!(measured >= 0)) throw new Error(`there is no figure for ${of}${to ? ` or ${to}` : ''}`)
  const reached = (most === undefined || measured <= most) && (least === undefined || measured >= least)
  return { measured, verdict: reached && (below === undefined || measured < below) ? 'reached' : 'missed' }
}

/**
 * Compares what was measured with the targets; what was not decides nothing, and says why.
 * @param {Measured} measured
 * @param {Record<string, string>} skippedMedia why each of them is not measured on
 */
export function judge(measured, skippedMedia) {
  return targets.flatMap(({ section, name, media, ...rule }) => {
    const found = measured[section]
    if (!found) return [{ section, name, medium: '', verdict: 'skipped', reason: 'not chosen by --only' }]
    return (media ?? Object.keys(found)).map((medium) => {
      const figures = found[medium]
      if (figures) return { section, name, medium, ...compare(rule, figures) }
      return { section, name, medium, verdict: 'skipped', reason: skippedMedia[medium] }
    })
  })
}
