'use strict'

const { describe, duration, printable } = require('./say.js')
const { isInBackground } = require('./terminal.js')

const ERASE = '\r\x1b[2K'

/** One line on a terminal that says who is waited for, and rewrites itself. */
class WaitingLine {
  #isShown = false

  /** @param {import('../index.js').WaitStatus} status */
  show({ holder, reason, waited }) {
    // The line would end up in what is typed there, and with `stty tostop` stop the wait.
    if (isInBackground()) return
    const known = [holder && describe(holder), reason].filter((each) => each !== undefined).join(': ')
    const text = printable(
      `waiting for ${duration(waited)}: ${known || 'another process is acquiring the lock'}`,
    )
    // A terminal that was never told its size has 0 columns.
    process.stderr.write(`${ERASE}${fitting(text, process.stderr.columns || 80)}`)
    this.#isShown = true
  }

  remove() {
    if (this.#isShown) process.stderr.write(ERASE)
    this.#isShown = false
  }
}

/**
 * Cuts a text so that it does not wrap, which could not be rewritten. A character beyond ASCII may be two
 * columns wide.
 * @param {string} text
 * @param {number} columns
 */
function fitting(text, columns) {
  let [width, cut] = [0, '']
  for (const character of text) {
    width += character > '~' ? 2 : 1
    if (width >= columns) break
    cut += character
  }
  return cut
}

module.exports = { WaitingLine, fitting }
