'use strict'

const { now } = require('../lib/clock.js')

/** @typedef {import('../index.js').Holder} Holder */

/** C0, DEL and C1 controls, what ends a line in Unicode, and what changes the direction of the text beside it. */
const UNPRINTABLE = /[\p{Cc}\u2028\u2029\p{Bidi_Control}]/gu

/** As a string of JavaScript has them. @type {Record<string, string>} */
const SHORT = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }

/**
 * One line of what a terminal or a log can show: a path, a server and a table may hold anything.
 * @param {string} text
 */
const printable = (text) => text.replace(UNPRINTABLE, escaped)

/** @param {string} character */
function escaped(character) {
  const code = character.charCodeAt(0).toString(16)
  return SHORT[character] ?? (code.length > 2 ? `\\u${code.padStart(4, '0')}` : `\\x${code.padStart(2, '0')}`)
}

/** @param {string} text for a person, one line on standard error */
const say = (text) => process.stderr.write(`${printable(text)}\n`)

/** @param {string} text for a person, one line on standard output */
const print = (text) => console.log(printable(text))

/**
 * @param {number} milliseconds
 * @returns {string} such as `1 min 12 s`
 */
function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  const [days, hours, minutes] = [
    Math.floor(seconds / 86400),
    Math.floor(seconds / 3600),
    Math.floor(seconds / 60),
  ]
  if (days > 0) return `${days} d ${hours % 24} h`
  if (hours > 0) return `${hours} h ${minutes % 60} min`
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`
}

/** @param {Holder} holder */
const nameOf = ({ pid, host }) => `process ${pid}${host === undefined ? '' : ` on ${host}`}`

/** @param {Holder} holder */
const describe = (holder) => `${nameOf(holder)} has held the lock for ${duration(now() - holder.createdAt)}`

module.exports = { say, print, printable, describe, duration, nameOf }
