import { readdirSync, readFileSync, statSync } from 'node:fs'

/** The number of processes in the wait queue of a directory: each locks a byte of the directory. */
export function queued(cwd: string): number {
  const { ino } = statSync(cwd)
  const lines = readFileSync('/proc/locks', 'utf8').split('\n')
  return lines.filter((line) => line.includes('OFDLCK') && line.includes(`:${ino} `)).length
}

/** The number of inotify watches of a process: one for each lock that was contended. */
export function watches(pid: number): number {
  const texts = readdirSync(`/proc/${pid}/fdinfo`).map((fd) => textOf(`/proc/${pid}/fdinfo/${fd}`))
  return texts.join('\n').split('inotify wd:').length - 1
}

/** The number of threads of the addon in a process. */
export function addonThreads(pid: number): number {
  const names = readdirSync(`/proc/${pid}/task`).map((thread) => textOf(`/proc/${pid}/task/${thread}/comm`))
  return names.filter((name) => name.trim() === 'reconcile-lock').length
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    // The thread ended meanwhile, or the descriptor was closed.
    return ''
  }
}
