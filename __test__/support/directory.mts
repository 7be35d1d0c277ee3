import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { lock } from './lock.mjs'
import { until } from './time.mjs'

const { resolveLockPath } = lock

export const MESSAGE = 'Another reconcile run is in progress'

export const isWindows = process.platform === 'win32'
export const isLinux = process.platform === 'linux'

/** Why tests of stopped and zombie processes are skipped. */
export const withoutSignals = isWindows && 'Windows stops no process, and has no zombies'

/** The mode of a lock file; Windows has access lists instead, which Node.js does not show. */
export const PRIVATE = isWindows ? 0o666 : 0o600

/** Creates an empty directory that is removed after the test. */
export function directory(t: TestContext, parent = tmpdir()): string {
  // The package and Node.js report real paths; /tmp of macOS is a symbolic link.
  const path = mkdtempSync(join(realpathSync(parent), 'reconcile-lock-'))
  // Other users must be able to enter it, as some tests act as another user.
  chmodSync(path, 0o755)
  t.after(() => {
    try {
      // Windows keeps a directory for as long as the addon watches it.
      const again = isWindows ? { maxRetries: 20, retryDelay: 100 } : {}
      rmSync(path, { recursive: true, force: true, ...again })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error
      // A waiter that a failed test has left acquires when the lock file is removed. An error would skip the hook that
      // kills it. Windows may keep the name of an open file, such as a lock that a test has left held.
      if (!isWindows) rmSync(path, { recursive: true, force: true })
    }
  })
  return path
}

/** Waits until a directory is empty: a thread of the addon rolls back what an ended thread had begun. */
export async function emptied(path: string): Promise<void> {
  await until(() => readdirSync(path).length === 0, `${path} is empty`)
}

/** Mounts a tmpfs; if that is not allowed, skips the test with the reason and returns `undefined`. */
export function mounted(t: TestContext, options: string): string | undefined {
  const path = mkdtempSync(join(realpathSync(tmpdir()), 'reconcile-lock-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path], { stdio: 'pipe' })
  } catch (error) {
    rmSync(path, { recursive: true })
    t.skip(`no filesystem can be mounted here: ${(error as Error).message.trim()}`)
    return undefined
  }
  t.after(() => {
    execFileSync('umount', [path])
    rmSync(path, { recursive: true })
  })
  return path
}

/** Fills a small filesystem to its last byte. */
export function fill(cwd: string): void {
  const file = openSync(join(cwd, 'ballast'), 'w')
  try {
    for (;;) writeSync(file, Buffer.alloc(4096))
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC')
  } finally {
    closeSync(file)
  }
}

/** Writes a lock file with an age in seconds. If the record has a `file`, it is set to this file. */
export function leave(cwd: string, content: string | Buffer | object, age = 60, file?: string): string {
  const path = file === undefined ? resolveLockPath(cwd) : join(cwd, file)
  const raw = typeof content === 'string' || Buffer.isBuffer(content)
  writeFileSync(path, raw ? content : '')
  if (!raw) {
    const { dev, ino } = statSync(path, { bigint: true })
    writeFileSync(path, JSON.stringify('file' in content ? { ...content, file: `${dev}:${ino}` } : content))
  }
  const at = Date.now() / 1000 - age
  utimesSync(path, at, at)
  return path
}

export const readRecord = (path: string): Record<string, unknown> => JSON.parse(readFileSync(path, 'utf8'))

/** The pid of a process that has just ended. */
export const deadPid = (): number => spawnSync(isWindows ? process.execPath : 'true', ['--version']).pid

/** Returns the error that `work` rejects with; throws if it resolves. */
export async function rejection(work: Promise<unknown>): Promise<Error & Record<string, unknown>> {
  const outcome = await work.then(
    (value) => ({ value }),
    (error: Error & Record<string, unknown>) => ({ error }),
  )
  if ('error' in outcome) return outcome.error
  throw new Error(`expected a rejection, got ${String(outcome.value)}`)
}
