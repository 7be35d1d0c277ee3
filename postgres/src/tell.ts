import { clearTimeout, setTimeout } from './clock.js'

/** How often those who wait are told, in milliseconds; a timer may be a millisecond early. */
const TELL = 1000 + 1

/**
 * Waits, and tells of it at once and again and again.
 * @param tell if it fails, that is the end of the wait
 */
export async function told<T>(waiting: Promise<T>, tell: (isFirst: boolean) => Promise<void>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  let isOver = false
  const failed = new Promise<never>((_, reject) => {
    const next = async (isFirst: boolean) => {
      try {
        await tell(isFirst)
        if (!isOver) timer = setTimeout(next, TELL, false)
      } catch (error) {
        reject(error)
      }
    }
    void next(true)
  })
  try {
    return await Promise.race([waiting, failed])
  } finally {
    isOver = true
    clearTimeout(timer)
  }
}
