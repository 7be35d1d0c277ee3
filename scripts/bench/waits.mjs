// How the others wait, and what they are called.

/** How long the original sleeps between two tries, in milliseconds. */
export const period = 200

/**
 * What a reader of proper-lockfile's README takes to wait: a number of retries, with the pauses of the package
 * `retry` (1 s, 2 s, 4 s, …; ten of them are its own default). `stale` is the least that its code accepts, where
 * its README says 5 s; its default is 10 s.
 */
export const properOptions = { retries: 10, stale: 2000 }

export const pollingName = `original, polled every ${period} ms`

/** A contender that pauses for no legacy process after a take-over. */
export const withoutLegacy = (name) => `${name}, legacy: false`

/** What PostgreSQL itself offers: two statements, those with a row that is on the disk when they are over, and a wait. */
export const postgresFloor = 'pg_try_advisory_lock + pg_advisory_unlock'
export const postgresFlushed = 'the same, with a row updated in between'
export const postgresPollingName = `pg_try_advisory_lock, polled every ${period} ms`
