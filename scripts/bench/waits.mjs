// How the others wait.

/** How long the original sleeps between two tries, in milliseconds. */
export const period = 200

/**
 * What a reader of proper-lockfile's README takes to wait: a number of retries, with the pauses of the package
 * `retry` (1 s, 2 s, 4 s, …; ten of them are its own default). `stale` is the least that its code accepts, where
 * its README says 5 s; its default is 10 s.
 */
export const properOptions = { retries: 10, stale: 2000 }

export const pollingName = `original, polled every ${period} ms`
