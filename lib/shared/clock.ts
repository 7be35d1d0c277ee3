// Captured when the package loads. Fake timers replace the globals later, and Jest's jsdom has no setImmediate.
import { hrtime } from 'node:process'

// Not by `import`: its names would be read from the module at each use.
const { clearTimeout, setImmediate, setTimeout } = require('node:timers') as typeof import('node:timers')
const { now } = Date
const { bigint } = hrtime

/** Milliseconds that no change of the system's time moves. */
const monotonic = (): number => Number(bigint()) / 1e6

/** A timer of Node.js for longer than this fires immediately. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** Resolves after a time in milliseconds, and does not keep the process alive if `ref` is `false`. */
function delay<T = void>(milliseconds: number, value?: T, { ref = true } = {}): Promise<T> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(value as T), milliseconds)
    if (!ref) timer.unref()
  })
}

export { clearTimeout, delay, MAX_TIMER_MS, monotonic, now, setImmediate, setTimeout }
