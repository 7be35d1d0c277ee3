import { clearTimeout, setTimeout } from '../shared/clock.js'

/** Several timers in sequence, because a blocked event loop reads no answers: its pause must not count as silence. */
const PARTS = 4

/**
 * Calls `onEnd` after a time in which the event loop was free to read answers.
 * @returns a function that stops the timer
 */
export function responseTimer(milliseconds: number, onEnd: () => void): () => void {
  let timer: NodeJS.Timeout
  const next = (parts: number) => {
    timer = setTimeout(() => (parts > 1 ? next(parts - 1) : onEnd()), milliseconds / PARTS)
  }
  next(PARTS)
  return () => clearTimeout(timer)
}

/** The result of `work`, or of `onSilence` after a time in which the event loop was free to read answers. */
export async function orSilence<T>(work: Promise<T>, milliseconds: number, onSilence: () => T): Promise<T> {
  let stop = () => {}
  const silence = new Promise<void>((resolve) => {
    stop = responseTimer(milliseconds, resolve)
  })
  try {
    return await Promise.race([work, silence.then(onSilence)])
  } finally {
    stop()
  }
}
