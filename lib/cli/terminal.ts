import { spawnSync } from 'node:child_process'
import { closeSync, readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { isatty } from 'node:tty'

/** The signals that a terminal, or the job control of a shell, sends to all processes of the foreground group. */
const TERMINAL_SIGNALS = new Set<NodeJS.Signals>(['SIGINT', 'SIGQUIT', 'SIGTSTP', 'SIGWINCH', 'SIGCONT'])

/**
 * Whether the terminal has sent the signal to the command too, so that this process must not send it again. A command
 * without a handler did not exist yet at that moment, or the signal would have ended it, so it gets the signal now.
 *
 * Node.js does not report the sender of a signal. If `kill` sends one of these to this process alone, it counts as sent
 * by the terminal, as the help says. Forwarding it would repeat Ctrl-C under npm, which sends its own copy of SIGINT.
 * @param pid the pid of the command
 */
export function isAlreadyDelivered(signal: NodeJS.Signals, pid: number | undefined): boolean {
  // All processes of a console get its events, and no other signal reaches a handler.
  if (process.platform === 'win32') return true
  return TERMINAL_SIGNALS.has(signal) && isInForeground() && isInThisGroup(pid) && hasHandler(pid, signal)
}

/** This process group and the foreground one; -1: no terminal, 0: a group of another pid namespace. */
function groups(): [group: number, foreground: number] | undefined {
  // qemu makes up the second file, in which there is a terminal. The first has the same numbers.
  const stat = read(`/proc/self/task/${process.pid}/stat`) ?? read('/proc/self/stat')
  if (stat === undefined) return undefined
  const [, , group, , , foreground] = fieldsOf(stat)
  return [Number(group), Number(foreground)]
}

/** The fields of proc(5) after the name in parentheses: state, ppid, pgrp, session, tty_nr, tpgid and more. */
const fieldsOf = (stat: string): string[] => stat.slice(stat.lastIndexOf(')') + 2).split(' ')

/** Whether a process is in the group of this one, unlike `timeout`, which makes one of its own; true if unknown. */
function isInThisGroup(pid: number | undefined): boolean {
  const [group] = groups() ?? []
  const stat = read(`/proc/${pid}/stat`)
  if (stat !== undefined) return Number(fieldsOf(stat)[2]) === group
  const { stdout } = spawnSync('ps', ['-o', 'pgid=', '-p', `${process.pid},${pid}`], { encoding: 'utf8' })
  const [ours, theirs = ours] = stdout?.trim().split(/\s+/) ?? []
  return ours === theirs
}

function isInForeground(): boolean {
  const [group, foreground] = groups() ?? []
  return group === undefined ? hasTerminal() : group === foreground
}

/** Whether a terminal controls this process; true on Windows, where a process has no group. */
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

/** The standard streams that were a terminal at the start. */
const terminals = [0, 1, 2].filter((descriptor) => isatty(descriptor))

/**
 * Leaves the terminal as it is at the end of this process. Node.js would set it as it was at the start, also from the
 * background, and abort if the terminal is gone. It skips a closed stream.
 */
export function leaveTerminal(): void {
  if (process.platform === 'win32') return
  process.once('exit', () => {
    try {
      for (const descriptor of terminals) closeSync(descriptor)
    } catch {
      // A stream is closed already.
    }
  })
}

/** Whether all processes of a group are zombies, which process 1 of a container may never reap; false if unknown. */
export function areZombies(group: number | undefined): boolean {
  const members = pids()
    .map((pid) => fieldsOf(read(`/proc/${pid}/stat`) ?? ''))
    .filter((fields) => Number(fields[2]) === group)
  // The first thread may have ended before the others, whose number is the field 20 of proc(5).
  return members.length > 0 && members.every((fields) => fields[0] === 'Z' && Number(fields[17]) <= 1)
}

function pids(): string[] {
  try {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  } catch {
    return []
  }
}

/** Whether a process has a handler for a signal, or blocks it, as for sigwait(3); true if unknown. */
function hasHandler(pid: number | undefined, signal: NodeJS.Signals): boolean {
  const masks = [...(read(`/proc/${pid}/status`) ?? '').matchAll(/^Sig(?:Blk|Cgt):\s*([0-9a-f]+)$/gm)]
  const bit = 1n << BigInt(constants.signals[signal] - 1)
  return masks.length === 0 || masks.some(([, mask]) => (BigInt(`0x${mask}`) & bit) !== 0n)
}

/** @param path a file that may be missing on another system or in a container */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return undefined
  }
}
