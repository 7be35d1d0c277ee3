import { readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { isatty } from 'node:tty'

/** What a terminal, or a shell by its job control, sends to all processes of the foreground group. */
const TERMINAL_SIGNALS = new Set<NodeJS.Signals>(['SIGINT', 'SIGQUIT', 'SIGTSTP', 'SIGWINCH', 'SIGCONT'])

/**
 * Whether the terminal has sent the signal to the command as well, so that this process must not send it again. Only a
 * command that existed can have got it: one without a handler would be gone, so it gets the signal again.
 *
 * Node.js does not say who has sent a signal. One of these that `kill` sends to this process alone counts as the
 * terminal's: the help says so. To forward each that a process has sent would repeat Ctrl-C below npm, which sends its
 * own copy of SIGINT.
 * @param pid the command's
 */
export function isAlreadyDelivered(signal: NodeJS.Signals, pid: number | undefined): boolean {
  return TERMINAL_SIGNALS.has(signal) && isInForeground() && hasHandler(pid, signal)
}

/** The process group and the foreground's, -1 without a terminal; 0 is a group of another pid namespace. */
function groups(): [group: number, foreground: number] | undefined {
  const stat = read('/proc/self/stat')
  if (stat === undefined) return undefined
  // proc(5): after the name in parentheses state, ppid, pgrp, session, tty_nr, tpgid.
  const [, , group, , , foreground] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return [Number(group), Number(foreground)]
}

function isInForeground(): boolean {
  const [group, foreground] = groups() ?? []
  return group === undefined ? isatty(0) : group === foreground
}

/** Whether a terminal controls this process; always on Windows, where a process has no group. */
export function hasTerminal(): boolean {
  if (process.platform === 'win32') return true
  const [, foreground] = groups() ?? []
  return foreground === undefined ? isatty(0) || isatty(1) || isatty(2) : foreground >= 0
}

/** Whether there is a terminal whose foreground is another process group. */
export function isInBackground(): boolean {
  const [group, foreground = 0] = groups() ?? []
  return foreground > 0 && group !== foreground
}

/** Whether a process has a handler for a signal; yes if that is unknown. */
function hasHandler(pid: number | undefined, signal: NodeJS.Signals): boolean {
  const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(read(`/proc/${pid}/status`) ?? '')?.[1]
  if (caught === undefined) return true
  return ((BigInt(`0x${caught}`) >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n
}

/** @param path of a file that another system, or a container, may lack */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}
