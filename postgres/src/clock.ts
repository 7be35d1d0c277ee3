/** The timers of the package: those that no fake ones replace. */
interface Clock {
  clearTimeout: typeof globalThis.clearTimeout
  /** Milliseconds that no change of the system's time moves. */
  monotonic: () => number
  setTimeout: typeof globalThis.setTimeout
}

export const { clearTimeout, monotonic, setTimeout }: Clock = require('../../lib/clock.js')

/** Resolves after a time in milliseconds, and does not keep the process alive if `ref` is `false`. */
export function delay<T = void>(milliseconds: number, value?: T, { ref = true } = {}): Promise<T> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(value as T), milliseconds)
    if (!ref) timer.unref()
  })
}
