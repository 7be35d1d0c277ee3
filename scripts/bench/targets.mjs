// The contenders that several files name, and what is to be reached.

/** How long the pollers sleep between two tries, in milliseconds. */
export const period = 200
export const polling = `legacy lock, polled every ${period} ms`
export const withoutLegacy = (name) => `${name}, legacy: false`
export const postgresFloor = 'pg_try_advisory_lock + pg_advisory_unlock'
export const postgresFlushed = 'the same, with a row updated in between'
export const postgresPolling = `pg_try_advisory_lock, polled every ${period} ms`

/**
 * `of` and `to` are figures of the section: the first one is divided by the second one, if there is one. A value up to
 * `most`, from `least` or `below` reaches the target. `media`: where, if not wherever the section runs.
 */
const media = ['tmpfs', 'disk']
const own = ['acquireLock', 'acquireLockSync']
const pair = (name) => `pair ${name}`
export const targets = [
  ...[
    { name: 'sync pair <= 1.6 x floor', of: pair('acquireLockSync'), to: 'floor', most: 1.6, media },
    { name: 'refused sync <= 1.0 x floor', of: 'refused acquireLockSync', to: 'floor', most: 1, media },
    { name: 'async pair <= 8 x floor', of: pair('acquireLock'), to: 'floor', most: 8, media: ['tmpfs'] },
    {
      name: "async pair <= 0.6 x legacy lock's",
      ...{ of: pair('acquireLock'), to: pair('legacy lock'), most: 0.6, media },
    },
    {
      name: 'sync pair >= 2 x faster than proper-lockfile sync',
      ...{ of: pair('proper-lockfile sync'), to: pair('acquireLockSync'), least: 2, media },
    },
  ].map((target) => ({ section: 'pairs', ...target })),
  ...own.flatMap((name) => [
    {
      section: 'handover',
      name: `${name} hand-over p50 <= 3 x flock(1)`,
      ...{ of: `${name} p50`, to: 'flock(1) p50', most: 3 },
    },
    {
      section: 'handover',
      name: `${name} hand-over p50 >= 50 x better than polling`,
      ...{ of: `${polling} p50`, to: `${name} p50`, least: 50 },
    },
    { section: 'killed', name: `${name} after SIGKILL p99 < 20 ms`, of: `${name} p99 ms`, below: 20 },
    {
      section: 'killed',
      name: `${withoutLegacy(name)}, after SIGKILL p50 < 4 ms`,
      ...{ of: `${withoutLegacy(name)} p50 ms`, below: 4 },
    },
  ]),
  ...[0, 1].flatMap((held) =>
    [
      { name: `held for ${held} ms: largest share <= 3 x smallest`, of: `share ${held}`, most: 3 },
      { name: `held for ${held} ms: no overlaps`, of: `overlaps ${held}`, most: 0 },
    ].map((target) => ({ section: 'fairness', ...target })),
  ),
  ...[
    {
      name: 'no subscriber <= 1.05 x without channels',
      ...{ of: 'no subscriber', to: 'without channels', most: 1.05 },
    },
    { name: 'no subscriber: nothing computed', of: 'computed without a subscriber', most: 0 },
  ].map((target) => ({ section: 'diagnostics', ...target })),
  ...[1, 200].flatMap((paths) =>
    [
      { name: `200 waiters, paths: ${paths}, CPU < 1 %`, of: `percent ${paths}`, below: 1 },
      { name: `200 waiters, paths: ${paths}, threads <= +2`, of: `threads ${paths}`, most: 2 },
    ].map((target) => ({ section: 'idle', ...target })),
  ),
  { section: 'load', name: 'require adds <= 5 ms', of: 'added reconcile-lock', most: 5 },
  ...[
    {
      name: 'acquireLock pair <= 6 x two statements with a row updated',
      ...{ of: 'acquireLock + release', to: postgresFlushed, most: 6 },
    },
    {
      name: 'acquireLock hand-over p50 >= 20 x better than polling',
      ...{ of: `${postgresPolling} p50`, to: 'acquireLock p50', least: 20 },
    },
  ].map((target) => ({ section: 'postgres', ...target })),
]

/** @param {Record<string, number | string>} figures numbers, or why there is none */
function compare({ of, to, most = Infinity, least = -Infinity, below = Infinity }, figures) {
  const values = [figures[of], to === undefined ? 1 : figures[to]]
  const reason = values.find((value) => typeof value === 'string')
  if (reason !== undefined) return { verdict: 'skipped', reason }
  const measured = values[0] / values[1]
  // Neither reached nor missed: an error.
  if (!(measured >= 0)) throw new Error(`there is no figure for ${of}${to ? ` or ${to}` : ''}`)
  const isReached = measured <= most && measured >= least && !(measured >= below)
  return { measured, verdict: isReached ? 'reached' : 'missed' }
}

/**
 * Compares the figures with the targets.
 * @param {Record<string, Record<string, Record<string, number | string>>>} measured figures by section and medium
 * @param {Record<string, string | undefined>} skipped why a medium is not measured on
 */
export function judge(measured, skipped) {
  return targets.flatMap(({ section, name, media, ...rule }) => {
    const found = measured[section]
    if (!found) return [{ section, name, medium: '', verdict: 'skipped', reason: 'not chosen by --only' }]
    return (media ?? Object.keys(found)).map((medium) => {
      const verdict = found[medium]
        ? compare(rule, found[medium])
        : { verdict: 'skipped', reason: skipped[medium] }
      return { section, name, medium, ...verdict }
    })
  })
}
