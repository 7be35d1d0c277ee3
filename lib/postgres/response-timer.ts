import { clearTimeout, setTimeout } from '../shared/clock.js'

/** A blocked event loop reads no answer, and must not take its own pause for the other side's silence. */
const PARTS = 4

/**
 * Calls `onEnd` after a time in which the event loop was free to read answers.
 * @returns ends the wait
 */
export function responseTimer(milliseconds: number, onEnd: () => void): () => void {
  let timer: NodeJS.Timeout
  const next = (parts: number) => {
    timer = setTimeout(() => (parts > 1 ? next(parts - 1) : onEnd()), milliseconds / PARTS)
  }
  next(PARTS)
  return () => clearTimeout(timer)
}
