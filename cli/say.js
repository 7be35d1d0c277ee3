'use strict'

const { now } = require('../lib/clock.js')

/** @typedef {import('../index.js').Holder} Holder */

/** @param {string} text for a person, on standard error */
const say = (text) => process.stderr.write(`${text}\n`)

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

/** @param {Holder} holder its host name was made printable when the lock file was read */
const nameOf = ({ pid, host }) => `process ${pid}${host === undefined ? '' : ` on ${host}`}`

/** @param {Holder} holder */
const describe = (holder) => `${nameOf(holder)} has held the lock for ${duration(now() - holder.createdAt)}`

module.exports = { say, describe, duration, nameOf }
