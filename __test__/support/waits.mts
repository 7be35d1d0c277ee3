// Waits for locks in this process, and whether a process waits for one.
import { readdirSync, readFileSync } from 'node:fs'
import type { AcquireOptions, Lock } from 'reconcile-lock'
import { isLinux } from './directory.mjs'
import { lock } from './lock.mjs'
import { sleep, until } from './time.mjs'

const { acquireLock } = lock

/** Starts a wait, and returns when it has begun; it rejects if the call ends without one. */
export async function begin(options: AcquireOptions): Promise<{ waiting: Promise<Lock> }> {
  let begun = () => {}
  const waits = new Promise<void>((resolve) => {
    begun = resolve
  })
  const waiting = acquireLock({ timeout: 20_000, ...options, onWait: () => begun() })
  waiting.catch(() => {})
  await Promise.race([waits, waiting])
  return { waiting }
}

/** Whether a process has an inotify watch, as a waiter has. */
export function watches(pid: number | undefined): boolean {
  const home = `/proc/${pid}/fdinfo`
  try {
    return readdirSync(home).some((descriptor) => /^inotify wd:/m.test(infoOf(`${home}/${descriptor}`)))
  } catch {
    // The process has ended.
    return false
  }
}

function infoOf(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    // The descriptor has been closed.
    return ''
  }
}

/** Waits until the waiting thread of a process watches a lock file. */
export async function asleep(pid = process.pid): Promise<void> {
  if (isLinux) await until(() => watches(pid), `process ${pid} watches a lock file`)
  else await sleep(50, 'only Linux shows that a process watches a file')
}
