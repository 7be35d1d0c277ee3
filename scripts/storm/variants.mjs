// Who takes part in a storm.
import { installRuntime } from '../runtimes/install.mjs'
import { runtimes } from '../runtimes/list.mjs'

/** In milliseconds; the same for all but threads, of which one kill ends many. */
const pace = { kill: [60, 180], stop: [60, 180], stopped: [20, 200] }
const threadPace = { ...pace, kill: [300, 900], terminate: [60, 180] }

const native = { kind: 'native' }
const old = { kind: 'old' }
const processes = (workers, member) => ({ member, processes: workers, threads: 0, logUnlinks: false, pace })

/** @type {Record<string, (workers: number) => import('./driver.mjs').Mix | { skipped: string }>} */
const variants = {
  native: (workers) => processes(workers, () => native),
  threads: (workers) => ({
    ...processes(2, () => ({ kind: 'thread' })),
    threads: Math.ceil(workers / 2),
    pace: threadPace,
  }),
  bun(workers) {
    const { missing, execPath } = installRuntime(runtimes.find(({ kind }) => kind === 'bun'))
    if (missing) return { skipped: missing }
    // Two by two: every other native worker waits for the lock instead of asking again.
    return processes(workers, (place) => (place % 4 < 2 ? native : { kind: 'bun', execPath }))
  },
  'old-peers': (workers) => ({
    ...processes(workers, (place) => (place % 3 === 2 ? old : native)),
    logUnlinks: true,
  }),
  control: (workers) => processes(workers, () => old),
}

export const variantNames = Object.keys(variants)

/**
 * @param {string} name
 * @param {number} workers
 */
export const mixOf = (name, workers) => variants[name](workers)
