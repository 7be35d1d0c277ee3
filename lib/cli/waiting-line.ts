import type { LockStatus, WaitStatus } from '../../index.js'
import { thisHost } from '../shared/this-host.js'
import { describe, describeHeld, duration, printable, stderrIsTerminal } from './output.js'
import type { Target } from './target.js'
import { isInBackground } from './terminal.js'

const ERASE = '\r\x1b[2K'

/** Whether standard error can show the line: a terminal named `dumb` prints escape sequences. */
export const canRewriteLine = stderrIsTerminal && process.env.TERM !== 'dumb'

/** One line on a terminal that names the holder and is rewritten in place. */
export class WaitingLine {
  #isShown = false
  #isInspecting = false
  #status: WaitStatus | undefined
  #found: LockStatus | undefined

  /** Whether a disk has not answered yet. */
  get isInspecting(): boolean {
    return this.#isInspecting
  }

  show(target: Target, status: WaitStatus): void {
    this.#status = status
    this.#draw(status)
    // The file of another host may be on a server that hangs.
    if (status.holder?.host === thisHost() && !this.#isInspecting) void this.#inspect(target, status.path)
  }

  /** Adds the process of the holder to the line. An error must not end the wait. */
  async #inspect(target: Target, path: string): Promise<void> {
    this.#isInspecting = true
    this.#found = await target.inspectFile(path).catch(() => undefined)
    this.#isInspecting = false
    if (this.#isShown && this.#status) this.#draw(this.#status)
  }

  #draw({ holder, reason, waited }: WaitStatus): void {
    // In the background, the line would mix with the input there, and `stty tostop` would stop the wait.
    if (isInBackground()) return
    const found = this.#found
    const isSame = found?.holder?.pid === holder?.pid && found?.holder?.createdAt === holder?.createdAt
    const named = holder && (isSame && found?.user ? describeHeld(holder, found) : describe(holder))
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
