/** A blocked event loop reads no answer, and must not take its own pause for the other side's silence. */
const PARTS = 4

/**
 * Calls `onEnd` after a time in which the event loop was free to read answers.
 * @param milliseconds `Infinity` is no end
 * @param isQuiet whether the wait alone does not keep the process running
 * @returns ends the wait
 */
export function patience(milliseconds: number, isQuiet: boolean, onEnd: () => void): () => void {
  if (milliseconds === Number.POSITIVE_INFINITY) return () => {}
  let timer: NodeJS.Timeout
  const next = (parts: number) => {
    timer = setTimeout(() => (parts > 1 ? next(parts - 1) : onEnd()), milliseconds / PARTS)
    if (isQuiet) timer.unref()
  }
  next(PARTS)
  return () => clearTimeout(timer)
}

/** The other side is silent. */
export function timedOut(what: string, milliseconds: number): Error {
  return Object.assign(new Error(`${what} within ${milliseconds} ms`), { code: 'ETIMEDOUT' })
}
