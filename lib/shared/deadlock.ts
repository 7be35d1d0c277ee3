import type { Holder } from '../../index.js'
import { monotonic } from './clock.js'
import { builtin, process } from './globals.js'
import { thisHost } from './this-host.js'

const { readdirSync, readFileSync, readlinkSync } = builtin(
  'node:fs',
  () => require('node:fs') as typeof import('node:fs'),
)

/** Bounds of a search, which blocks the event loop. */
const MAX_DESCRIPTORS = 200
const MAX_PROCESSES = 8
const SEARCH_INTERVAL_MS = 1000

/** The results of the last searches, by the pid of the holder. */
let searched = { at: Number.NEGATIVE_INFINITY, reasons: new Map<number, string | undefined>() }

/**
 * The reason why perhaps neither process can continue: the holder, or a child such as the command of `run`, waits for a
 * lock that this process holds or has inherited. Another task of the holder may be the one that waits. On Linux, among
 * the processes that this user may inspect; else `undefined`.
 */
export function deadlockReason(holder: Holder | null | undefined): string | undefined {
  if (process.platform !== 'linux' || holder?.host !== thisHost()) return undefined
  const time = monotonic()
  // Many waits may search at the same time.
  if (time - searched.at >= SEARCH_INTERVAL_MS) searched = { at: time, reasons: new Map() }
  const { reasons } = searched
  const { pid } = holder
  if (pid !== process.pid && !reasons.has(pid) && reasons.size < MAX_PROCESSES) reasons.set(pid, search(pid))
  return reasons.get(pid)
}

function search(holder: number): string | undefined {
  try {
    const held = heldFiles()
    if (held.size === 0) return undefined
    for (const pid of withChildren(holder)) {
      const path = awaitedFiles(pid)
        .map((file) => held.get(file))
        .find(Boolean)
      if (path)
        return `a possible deadlock, because process ${pid} waits for ${path}, which this process holds`
    }
  } catch {
    // The holder has ended, or belongs to another user.
  }
  return undefined
}

/** The paths of the files of which this process has the kernel lock, by device and inode. */
function heldFiles(): Map<string, string> {
  const found = descriptors('self').flatMap(({ number, info }) => {
    const file = lockedFile(info)
    return file === undefined ? [] : [[file, readlinkSync(`/proc/self/fd/${number}`)] as const]
  })
  return new Map(found)
}

/** The file of a descriptor that has its kernel lock, by device and inode. */
function lockedFile(info: string): string | undefined {
  const lock = /^lock:.* FLOCK .* (?:READ|WRITE) \d+ ([\da-f]+):([\da-f]+):(\d+) /m
  const [, major = '', minor = '', inode] = lock.exec(info) ?? []
  return inode && `${(Number.parseInt(major, 16) << 20) | Number.parseInt(minor, 16)}:${inode}`
}

/**
 * The files that a process waits for: those that it watches (`proc_pid_fdinfo(5)`) and has not locked. It watches a file
 * that it has locked for a loss.
 */
function awaitedFiles(pid: number): string[] {
  const infos = descriptors(pid).map(({ info }) => info)
  const locked = new Set(infos.map(lockedFile))
  const watched = infos.flatMap((info) =>
    Array.from(
      info.matchAll(/^inotify wd:\w+ ino:([\da-f]+) sdev:([\da-f]+) /gm),
      ([, inode = '', device = '']) => `${Number.parseInt(device, 16)}:${BigInt(`0x${inode}`)}`,
    ),
  )
  return watched.filter((file) => !locked.has(file))
}

const descriptors = (pid: number | 'self') =>
  readdirSync(`/proc/${pid}/fdinfo`)
    .slice(0, MAX_DESCRIPTORS)
    .map((number) => ({ number, info: infoOf(`/proc/${pid}/fdinfo/${number}`) }))

function infoOf(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    // It was closed, as that of the directory.
    return ''
  }
}

function withChildren(first: number): number[] {
  const pids = [first]
  for (const pid of pids) {
    const children = infoOf(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean).map(Number)
    pids.push(...children.slice(0, MAX_PROCESSES - pids.length))
  }
  return pids
}
