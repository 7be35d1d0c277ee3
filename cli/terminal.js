'use strict'

const { readFileSync } = require('node:fs')
const { constants } = require('node:os')
const { isatty } = require('node:tty')

/** What a terminal, or a shell by its job control, sends to all processes of the foreground group. */
const TO_ALL = new Set(['SIGINT', 'SIGQUIT', 'SIGTSTP', 'SIGWINCH', 'SIGCONT'])

/**
 * Whether the terminal has sent the signal to our command as well, so that it must not hear it twice. A terminal
 * can only have told a command that was there: one without a handler would be gone, so it is told again.
 *
 * Node.js does not say who has sent a signal. One of these that `kill` sends to this process alone counts as the
 * terminal's: the help says so. To pass on each that a process has sent would repeat Ctrl-C below npm, which sends its
 * own copy of SIGINT.
 * @param {NodeJS.Signals} signal
 * @param {number | undefined} pid the command's
 */
function hasTold(signal, pid) {
  return TO_ALL.has(signal) && isInForeground() && catches(pid, signal)
}

/**
 * The process group and the foreground's, -1 without a terminal; 0 is a group of another pid namespace.
 * @returns {[group: number, foreground: number] | undefined}
 */
function groups() {
  const stat = read('/proc/self/stat')
  if (stat === undefined) return undefined
  // proc(5): after the name in parentheses state, ppid, pgrp, session, tty_nr, tpgid.
  const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return [Number(group), Number(foreground)]
}

function isInForeground() {
  const [group, foreground] = groups() ?? []
  return group === undefined ? isatty(0) : group === foreground
}

/** Whether a terminal controls this process; on Windows, where a process has no group, that counts as one. */
function hasTerminal() {
  if (process.platform === 'win32') return true
  const [, foreground] = groups() ?? []
  return foreground === undefined ? isatty(0) || isatty(1) || isatty(2) : foreground >= 0
}

/** Whether there is a terminal, and it belongs to other processes now. */
function isInBackground() {
  const [group, foreground = 0] = groups() ?? []
  return foreground > 0 && group !== foreground
}

/**
 * Whether a process has a handler for a signal; yes if that cannot be seen.
 * @param {number | undefined} pid
 * @param {NodeJS.Signals} signal
 */
function catches(pid, signal) {
  const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1]
  if (caught === undefined) return true
  return ((BigInt(`0x${caught}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n
}

/** @param {string} path of a file that another system, or a container, may lack */
function read(path) {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}

module.exports = { hasTerminal, hasTold, isInBackground }
