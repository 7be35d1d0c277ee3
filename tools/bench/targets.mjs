// The targets, and the names of contenders that several files use.

/** How long the pollers sleep between two attempts, in milliseconds. */
export const period = 200
export const polling = `legacy lock, polled every ${period} ms`
export const withoutLegacy = (name) => `${name}, legacy: false`
export const postgresFlushed = 'the same, with a row updated in between'
export const postgresPolling = `pg_try_advisory_lock, polled every ${period} ms`

const own = ['acquireLock', 'acquireLockSync']

/**
 * By section: `MEDIUM: FIGURE`, `FIGURE / FIGURE` or `FIGURE - FIGURE`, and a bound. A figure is a row and a column. A
 * target without a medium is for every medium of its section.
 */
const targets = {
  pairs: [
    { medium: 'tmpfs', refusedSync: 0.65, async: 2.8 },
    { medium: 'disk', refusedSync: 0.4, async: 2 },
  ].flatMap(({ medium, refusedSync, async }) => [
    `${medium}: acquireLockSync x floor - its system calls x floor <= 0.1`,
    `${medium}: acquireLockSync, refused x floor <= ${refusedSync}`,
    `${medium}: acquireLock x floor <= ${async}`,
    `${medium}: acquireLock, refused x floor <= 1.5`,
    `${medium}: acquireLock median ns / legacy lock median ns <= 0.6`,
    `${medium}: proper-lockfile sync median ns / acquireLockSync median ns >= 2`,
  ]),
  handover: own.flatMap((name) => [
    `${name} p50 us / flock(1) p50 us <= 3`,
    `${name} p50 us <= 300`,
    `${polling} p50 us / ${name} p50 us >= 50`,
  ]),
  killed: own.flatMap((name) => [`${name} p99 us < 20000`, `${withoutLegacy(name)} p50 us < 4000`]),
  fairness: ['held for 0 ms', 'held for 1 ms'].flatMap((held) => [
    `${held} ratio <= 3`,
    `${held} overlaps <= 0`,
  ]),
  diagnostics: ['no subscriber median ns / without channels median ns <= 1.05'],
  wakeups: ['each process that is not next CPU us <= 40'],
  idle: ['paths: 1', 'paths: 200'].flatMap((paths) => [`${paths} CPU % < 1`, `${paths} threads more <= 2`]),
  load: [
    'reconcile-lock added ms <= 5',
    "require('reconcile-lock') in process ms - dlopen of its binary in process ms <= 1.5",
  ],
  growth: [
    '10000 locks pair us / 1 locks pair us <= 1.5',
    '10000 locks by path us / 1 locks by path us <= 1.5',
  ],
  memory: ['a held lock bytes <= 1024', 'a waiter bytes <= 2048'],
  postgres: [
    `acquireLock + release median us / ${postgresFlushed} median us <= 6`,
    `${postgresPolling} p50 us / acquireLock p50 us >= 20`,
  ],
}
const TARGET = /^(?:(tmpfs|disk): )?((.+?)(?: ([/-]) (.+))? (<=?|>=) ([\d.]+))$/

/** The values of rows by `row column`: numbers, or the reason why one is missing. */
export const figuresOf = (rows) =>
  Object.fromEntries(
    rows.flatMap(({ name, ...values }) =>
      Object.entries(values).map(([column, value]) => [`${name} ${column}`, value]),
    ),
  )

function compare([of, operator, to, order, bound], figures) {
  const pair = [figures[of], operator ? figures[to] : 0]
  // A typing error in a target.
  if (pair.includes(undefined)) throw new Error(`there is no figure for ${operator ? `${of} or ${to}` : of}`)
  const reason = pair.find((each) => typeof each === 'string')
  if (reason !== undefined) return { verdict: 'skipped', measured: reason }
  const measured = operator === '/' ? pair[0] / pair[1] : pair[0] - pair[1]
  const isReached = { '<': measured < bound, '<=': measured <= bound, '>=': measured >= bound }
  return { verdict: isReached[order] ? 'reached' : 'missed', measured }
}

/** Compares the figures of a section on a medium with its targets. */
export const judge = (section, medium, figures) =>
  (targets[section] ?? []).flatMap((target) => {
    const [, only, name, ...rule] = TARGET.exec(target)
    return only && only !== medium ? [] : [{ section, name, medium, ...compare(rule, figures) }]
  })
