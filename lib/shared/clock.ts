// Captured when the package loads. Fake timers replace the globals later, and Jest's jsdom has no setImmediate.

// Not by `import`: each use would read the name from the module again.
const { clearTimeout, setImmediate, setTimeout } = require('node:timers') as typeof import('node:timers')
const { now } = Date
// Not of node:process: Node.js 20.9 opens the standard streams when that is loaded, and makes pipes non-blocking.
const uptime = process.uptime.bind(process)

/**
 * Milliseconds of a clock that changes of the system time do not affect. Fake timers replace `hrtime` and `performance`,
 * perhaps before this loads, and a wait would not end. `uptime` of Deno calls `performance.now` at each call.
 */
const monotonic: () => number = process.versions.deno
  ? performance.now.bind(performance)
  : () => uptime() * 1000

/** The longest timer of Node.js: a longer one fires immediately. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Resolves after a time in milliseconds; keeps the process alive unless `ref` is `false`. */
function delay<T = void>(milliseconds: number, value?: T, { ref = true } = {}): Promise<T> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(value as T), milliseconds)
    if (!ref) timer.unref()
  })
}

export { clearTimeout, delay, MAX_TIMER_MS, monotonic, now, setImmediate, setTimeout }
