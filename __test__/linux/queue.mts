import { readdirSync, readFileSync, statSync } from 'node:fs'

/** How many processes are in the wait queue for a lock in this directory: each locks a byte of the directory. */
export function queued(cwd: string): number {
  const { ino } = statSync(cwd)
  const lines = readFileSync('/proc/locks', 'utf8').split('\n')
  return lines.filter((line) => line.includes('OFDLCK') && line.includes(`:${ino} `)).length
}

/** How many threads of the addon a process has. */
export function addonThreads(pid: number): number {
  const names = readdirSync(`/proc/${pid}/task`).map((thread) => nameOf(`/proc/${pid}/task/${thread}/comm`))
  return names.filter((name) => name === 'reconcile-lock').length
}

function nameOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    // The thread has ended meanwhile.
    return ''
  }
}
