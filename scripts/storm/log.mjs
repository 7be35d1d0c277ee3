// A worker's log: one short line per event, each written by one call, so that a kill loses no more than the
// line that is being written.
import { openSync, readFileSync, writeSync } from 'node:fs'
import { now } from './clock.mjs'

/** How many refusals are counted before they are written: a line for each would cost more than the refusal. */
const batch = 100

/** @param {string} path */
export function openLog(path) {
  const file = openSync(path, 'a')
  let refused = 0
  const write = (line) => {
    const counted = refused > 0 ? `refused ${refused}\n` : ''
    refused = 0
    writeSync(file, `${counted}${line}`)
  }
  return {
    /** Call it first after `acquire` returned. `since` gives the earliest moment when the lock can have been ours. */
    enter(takenOver, since) {
      const stamp = now()
      write(`enter ${stamp} ${since(stamp)} ${takenOver ? 1 : 0}\n`)
    },
    /** Call it last before `release`. */
    exit: () => write(`exit ${now()}\n`),
    /** `during` is `acquire` or `release`. */
    error: (during, error) =>
      write(`error ${now()} ${during} ${error.code ?? error.name} ${JSON.stringify(error.message)}\n`),
    /** Before an old peer removes whatever is at the path, and after it has. */
    unlink: () => write(`unlink ${now()}\n`),
    unlinked: () => write(`unlinked ${now()}\n`),
    /** Before a thread is terminated, and after it was told to. */
    end: (thread) => write(`end ${now()} ${thread}\n`),
    ended: (thread) => write(`ended ${now()} ${thread}\n`),
    refused() {
      refused += 1
      if (refused >= batch) write('')
    },
    flush: () => write(''),
  }
}

/** The events of a log. The last line of a killed worker may be torn: it does not count. */
export function readLog(path) {
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1)
  return lines.map((line) => {
    const [event, value, third, fourth] = line.split(' ', 4)
    if (event === 'refused') return { event, count: Number(value) }
    const at = BigInt(value)
    if (event === 'enter') return { event, at, since: BigInt(third), takenOver: fourth === '1' }
    if (event === 'end' || event === 'ended') return { event, at, thread: third }
    if (event !== 'error') return { event, at }
    const message = JSON.parse(line.slice(line.indexOf('"')))
    return { event, at, during: third, code: fourth, message }
  })
}
