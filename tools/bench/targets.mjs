// The targets, and the names of contenders that several files use.

/** How long the pollers sleep between two attempts, in milliseconds. */
export const period = 200
export const polling = `legacy lock, polled every ${period} ms`
export const withoutLegacy = (name) => `${name}, legacy: false`
export const postgresFlushed = 'the same, with a row updated in between'
export const postgresPolling = `pg_try_advisory_lock, polled every ${period} ms`

const both = ['tmpfs', 'disk']
const own = ['acquireLock', 'acquireLockSync']

/**
 * `of`, `to` and `over` name a row and a column of the section. The value of `of` is divided by that of `to`, if given,
 * or that of `over` is subtracted. The target is reached up to `most`, from `least`, or `below` a value. `media`: where,
 * if not on all media of the section.
 */
const bySection = {
  pairs: [
    {
      name: 'sync pair <= its system calls + 0.1 x floor',
      ...{ of: 'acquireLockSync x floor', over: 'its system calls x floor', most: 0.1, media: both },
    },
    ...[
      ['refused sync', 'acquireLockSync, refused x floor', 0.65, 0.4],
      ['async pair', 'acquireLock x floor', 2.8, 2],
      ['refused async', 'acquireLock, refused x floor', 1.5, 1.5],
    ].flatMap(([name, of, ...most]) =>
      both.map((medium, index) => ({
        name: `${name} <= ${most[index]} x floor`,
        ...{ of, most: most[index], media: [medium] },
      })),
    ),
    {
      name: "async pair <= 0.6 x legacy lock's",
      ...{ of: 'acquireLock median ns', to: 'legacy lock median ns', most: 0.6, media: both },
    },
    {
      name: 'sync pair >= 2 x faster than proper-lockfile sync',
      ...{ of: 'proper-lockfile sync median ns', to: 'acquireLockSync median ns', least: 2, media: both },
    },
  ],
  handover: own.flatMap((name) => [
    {
      name: `${name} hand-over p50 <= 3 x flock(1)`,
      ...{ of: `${name} p50 us`, to: 'flock(1) p50 us', most: 3 },
    },
    { name: `${name} hand-over p50 <= 0.3 ms`, of: `${name} p50 us`, most: 300 },
    {
      name: `${name} hand-over p50 >= 50 x better than polling`,
      ...{ of: `${polling} p50 us`, to: `${name} p50 us`, least: 50 },
    },
  ]),
  killed: own.flatMap((name) => [
    { name: `${name} after SIGKILL p99 < 20 ms`, of: `${name} p99 us`, below: 20_000 },
    {
      name: `${withoutLegacy(name)}, after SIGKILL p50 < 4 ms`,
      ...{ of: `${withoutLegacy(name)} p50 us`, below: 4000 },
    },
  ]),
  fairness: ['held for 0 ms', 'held for 1 ms'].flatMap((held) => [
    { name: `${held}: largest share <= 3 x smallest`, of: `${held} ratio`, most: 3 },
    { name: `${held}: no overlaps`, of: `${held} overlaps`, most: 0 },
  ]),
  diagnostics: [
    {
      name: 'no subscriber <= 1.05 x without channels',
      ...{ of: 'no subscriber median ns', to: 'without channels median ns', most: 1.05 },
    },
    { name: 'no subscriber: nothing computed', of: 'no subscriber reads', most: 0 },
  ],
  wakeups: [
    { name: 'each process that is not next <= 40 us', of: 'each process that is not next CPU us', most: 40 },
  ],
  idle: ['paths: 1', 'paths: 200'].flatMap((paths) => [
    { name: `200 waiters, ${paths}, CPU < 1 %`, of: `${paths} CPU %`, below: 1 },
    { name: `200 waiters, ${paths}, threads <= +2`, of: `${paths} threads more`, most: 2 },
  ]),
  load: [
    { name: 'require adds <= 5 ms', of: 'reconcile-lock added ms', most: 5 },
    {
      name: 'require takes <= dlopen + 1.5 ms',
      ...{
        of: "require('reconcile-lock') in process ms",
        over: 'dlopen of its binary in process ms',
        most: 1.5,
      },
    },
  ],
  growth: [
    {
      name: 'a pair beside 10,000 held locks <= 1.5 x beside 1',
      ...{ of: '10000 locks pair us', to: '1 locks pair us', most: 1.5 },
    },
    {
      name: 'releaseLock(path) beside 10,000 locks <= 1.5 x beside 1',
      ...{ of: '10000 locks by path us', to: '1 locks by path us', most: 1.5 },
    },
  ],
  memory: [
    { name: 'a held lock <= 1 KiB', of: 'a held lock bytes', most: 1024 },
    { name: 'a waiter <= 2 KiB', of: 'a waiter bytes', most: 2048 },
  ],
  postgres: [
    {
      name: 'acquireLock pair <= 6 x two statements with a row updated',
      ...{ of: 'acquireLock + release median us', to: `${postgresFlushed} median us`, most: 6 },
    },
    {
      name: 'acquireLock hand-over p50 >= 20 x better than polling',
      ...{ of: `${postgresPolling} p50 us`, to: 'acquireLock p50 us', least: 20 },
    },
  ],
}
export const targets = Object.entries(bySection).flatMap(([section, all]) =>
  all.map((target) => ({ section, ...target })),
)

/** The values of rows by `row column`: numbers, or the reason why one is missing. */
export const figuresOf = (rows) =>
  Object.fromEntries(
    rows.flatMap(({ name, samples: _, ...values }) =>
      Object.entries(values).map(([column, value]) => [`${name} ${column}`, value]),
    ),
  )

function compare({ of, to, over, most = Infinity, least = -Infinity, below = Infinity }, figures) {
  const values = [figures[of], to === undefined ? 1 : figures[to], over === undefined ? 0 : figures[over]]
  const reason = values.find((value) => typeof value === 'string')
  if (reason !== undefined) return { verdict: 'skipped', reason }
  const measured = values[0] / values[1] - values[2]
  // A missing figure is an error.
  if (Number.isNaN(measured))
    throw new Error(`there is no figure for ${[of, to, over].filter(Boolean).join(' or ')}`)
  const isReached = measured <= most && measured >= least && !(measured >= below)
  return { measured, verdict: isReached ? 'reached' : 'missed' }
}

/**
 * Compares the figures with the targets.
 * @param {Record<string, Record<string, Record<string, number | string> | string>>} measured figures by section and medium, or
 *   why there are none
 * @param {Record<string, string | undefined>} skipped why a medium is not measured on
 */
export function judge(measured, skipped) {
  return targets.flatMap(({ section, name, media, ...rule }) => {
    const found = measured[section]
    if (!found) return [{ section, name, medium: '', verdict: 'skipped', reason: 'not chosen by --only' }]
    return (media ?? Object.keys(found)).map((medium) => {
      const figures = found[medium] ?? skipped[medium] ?? 'not measured'
      const isReason = typeof figures === 'string'
      const verdict = isReason ? { verdict: 'skipped', reason: figures } : compare(rule, figures)
      return { section, name, medium, ...verdict }
    })
  })
}
