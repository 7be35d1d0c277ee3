// When the stress test kills, stops and terminates which worker. A pure function of the seed.
import { randomFrom } from './random.mjs'

/**
 * @typedef {object} ScheduledEvent
 * @property {'kill' | 'stop' | 'terminate'} act
 * @property {number} at in milliseconds since the start
 * @property {number} place of the worker; the driver takes the next eligible place if this one is not eligible
 * @property {boolean} [holder] a kill: whether the driver prefers the holder of the lock
 * @property {number} [lasting] a stop: how long, in milliseconds
 * @property {number} [thread] a termination: the place of the thread in its process
 */

/** What is random in each kind of event besides its time. */
const details = {
  kill: (random) => ({ holder: random.chance(0.75) }),
  stop: (random, { pace }) => ({ lasting: random.whole(...pace.stopped) }),
  terminate: (random, { threads }) => ({ thread: random.whole(0, threads - 1) }),
}

/** The events of one kind. They have a stream of their own. */
function eventsOf(act, seed, mix, end) {
  const random = randomFrom(seed, act)
  const events = []
  const [low, high] = mix.pace[act]
  for (let at = random.whole(low, high); at < end; at += random.whole(low, high))
    events.push({ act, at, place: random.whole(0, mix.processes - 1), ...details[act](random, mix) })
  return events
}

/**
 * All events in the order of their times.
 * @param {string} seed
 * @param {import('./driver.mjs').Mix} mix
 * @param {number} seconds
 * @returns {ScheduledEvent[]}
 */
export function schedule(seed, mix, seconds) {
  const acts = Object.keys(details).filter((act) => mix.pace[act])
  return acts.flatMap((act) => eventsOf(act, seed, mix, seconds * 1000)).sort((a, b) => a.at - b.at)
}

/**
 * The first worker from a place on. The first place follows the last one.
 * @template {{ place: number }} W
 * @param {number} place
 * @param {W[]} workers in the order of their places
 * @returns {W | undefined}
 */
export const nextFrom = (place, workers) => workers.find((worker) => worker.place >= place) ?? workers[0]
