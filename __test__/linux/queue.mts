import { readdirSync, readFileSync, statSync } from 'node:fs'

/** How many processes are in the wait queue for a lock in this directory: each locks a byte of the directory. */
export function queued(cwd: string): number {
  const { ino } = statSync(cwd)
  const lines = readFileSync('/proc/locks', 'utf8').split('\n')
  return lines.filter((line) => line.includes('OFDLCK') && line.includes(`:${ino} `)).length
}

/** How many files or directories a process watches: one for each lock whose holder has refused an attempt. */
export function watches(pid: number): number {
  const texts = readdirSync(`/proc/${pid}/fdinfo`).map((fd) => textOf(`/proc/${pid}/fdinfo/${fd}`))
  return texts.join('\n').split('inotify wd:').length - 1
}

/** How many threads of the addon a process has. */
export function addonThreads(pid: number): number {
  const names = readdirSync(`/proc/${pid}/task`).map((thread) => textOf(`/proc/${pid}/task/${thread}/comm`))
  return names.filter((name) => name.trim() === 'reconcile-lock').length
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // The thread has ended meanwhile, or the descriptor was closed.
    return ''
  }
}
