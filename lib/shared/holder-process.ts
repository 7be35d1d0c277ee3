import { closeSync, constants, openSync, readFileSync, readSync, statSync } from 'node:fs'
import type { Holder, HolderProcess, Reader } from '../../index.js'
import { thisHost } from './this-host.js'

/** More than a record has, in bytes. */
const MAX_RECORD = 4096

/** The longest command line that is returned, in characters. */
const MAX_COMMAND = 4096

/**
 * The command line and the user of a holder, as `/proc` has them at this moment. Empty unless the record of the lock
 * file proves that the process with its pid is the holder: same kernel, same pid namespace, same start time.
 */
export function holderProcess(path: string, holder: Holder | undefined): HolderProcess {
  // The file of another host may be on a server that hangs.
  if (process.platform !== 'linux' || holder?.host !== thisHost()) return {}
  try {
    const { pid, createdAt, bootId, pidNs, startTime } = readRecord(path)
    const isRecorded = pid === holder.pid && createdAt === holder.createdAt
    if (!isRecorded || bootId !== thisBoot() || pidNs !== statSync('/proc/self/ns/pid').ino) return {}
    const described = describe(holder.pid)
    // Read last: another process may have got the pid in the meantime.
    return startTime === undefined || startOf(`/proc/${holder.pid}`) !== startTime ? {} : described
  } catch {
    // The holder has ended, or /proc or the lock file cannot be read.
    return {}
  }
}

/** A process that the kernel lists as a reader, which may have ended in the meantime. */
export function readerProcess(pid: number): Reader {
  try {
    return { pid, ...describe(pid) }
  } catch {
    return { pid }
  }
}

function describe(pid: number): HolderProcess {
  const directory = `/proc/${pid}`
  const command = commandIn(directory)
  const user = userIn(directory)
  return { ...(command && { command }), ...(user && { user }) }
}

interface ProcessRecord {
  pid?: number
  createdAt?: number
  bootId?: string
  pidNs?: number
  startTime?: number
}

/**
 * Does not follow a link or wait for a FIFO: the path may name another file now. Does not change the time of the last
 * access, which only the owner of the file can avoid: for another user the process is not named.
 */
function readRecord(path: string): ProcessRecord {
  const file = openSync(path, constants.O_NOATIME | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const bytes = Buffer.alloc(MAX_RECORD)
    return JSON.parse(bytes.toString('utf8', 0, readSync(file, bytes)))
  } finally {
    closeSync(file)
  }
}

const thisBoot = (): string => readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim()

/** Field 22 of proc(5), after the name in parentheses. */
function startOf(directory: string): number {
  const stat = readFileSync(`${directory}/stat`, 'latin1')
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19])
}

function commandIn(directory: string): string {
  const command = readFileSync(`${directory}/cmdline`, 'utf8').replace(/\0+$/, '').replaceAll('\0', ' ')
  return command.length > MAX_COMMAND ? `${command.slice(0, MAX_COMMAND - 1)}…` : command
}

/** The name of the effective user; its number if /etc/passwd does not have it. */
function userIn(directory: string): string | undefined {
  const [, id] = /^Uid:\s+\d+\s+(\d+)/m.exec(readFileSync(`${directory}/status`, 'latin1')) ?? []
  return id === undefined ? undefined : (nameOf(id) ?? id)
}

function nameOf(id: string): string | undefined {
  try {
    const entries = readFileSync('/etc/passwd', 'utf8').split('\n')
    return entries.map((entry) => entry.split(':')).find(([, , number]) => number === id)?.[0]
  } catch {
    return undefined
  }
}
