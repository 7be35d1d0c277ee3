import type { WaitStatus } from '../../index.js'
import { holderProcess } from '../shared/holder-process.js'
import { describe, describeHeld, duration, printable } from './output.js'
import { isInBackground } from './terminal.js'

const ERASE = '\r\x1b[2K'

/** One line on a terminal that names the holder and is rewritten in place. */
export class WaitingLine {
  #isShown = false

  show({ path, holder, reason, waited }: WaitStatus): void {
    // In the background, the line would mix with the input there, and `stty tostop` would stop the wait.
    if (isInBackground()) return
    const found = holderProcess(path, holder)
    const named = holder && (found.user ? describeHeld(holder, found) : describe(holder))
    const known = [named, reason].filter((each) => each !== undefined).join(': ')
    const text = printable(
      `waiting for ${duration(waited)}: ${known || 'another process is acquiring the lock'}`,
    )
    // A terminal of unknown size reports 0 columns.
    process.stderr.write(`${ERASE}${fitting(text, process.stderr.columns || 80)}`)
    this.#isShown = true
  }

  remove(): void {
    if (this.#isShown) process.stderr.write(ERASE)
    this.#isShown = false
  }
}

/**
 * Cuts a text so that it does not wrap, because a wrapped line cannot be rewritten. A character beyond ASCII may be two
 * columns wide.
 */
export function fitting(text: string, columns: number): string {
  let [width, cut] = [0, '']
  for (const character of text) {
    width += character > '~' ? 2 : 1
    if (width >= columns) break
    cut += character
  }
  return cut
}
