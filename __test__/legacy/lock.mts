// The TypeScript lock that this package replaces, written again from its description, with its faults. It is
// the control (each test of a fault fails on it) and the legacy process of the stress test. `hooks` stop it between two
// of its steps, where it would stop only by chance otherwise.
import * as fs from 'node:fs/promises'
import { join } from 'node:path'

export interface Hooks {
  /** Called between the judgement that a lock is stale and its removal. */
  beforeUnlink?: () => Promise<void>
  /** Called between the removal and the creation. */
  beforeCreate?: () => Promise<void>
  kill?: (pid: number, signal: 0) => boolean
}

interface Payload {
  pid: number
  createdAt: number
}

export function resolveLockPath(cwd = process.cwd()): string {
  return join(cwd, '.xero-reconcile-lock.json')
}

const has = (error: unknown, code: string) => (error as NodeJS.ErrnoException).code === code

async function readLock(path: string): Promise<Payload | 'corrupt' | undefined> {
  let text: string
  try {
    if ((await fs.lstat(path)).isSymbolicLink())
      throw new Error(`Refusing to read symlinked lock file: ${path}`)
    text = await fs.readFile(path, 'utf8')
  } catch (error) {
    if (has(error, 'ENOENT')) return undefined
    throw error
  }
  try {
    const payload = JSON.parse(text) as Payload
    return Number.isInteger(payload.pid) ? payload : 'corrupt'
  } catch {
    return 'corrupt'
  }
}

function isAlive(pid: number, kill: NonNullable<Hooks['kill']>): boolean {
  try {
    return kill(pid, 0)
  } catch {
    return false
  }
}

export async function acquireLock(cwd = process.cwd(), hooks: Hooks = {}): Promise<void> {
  const path = resolveLockPath(cwd)
  const found = await readLock(path)
  if (found !== undefined) {
    if (found !== 'corrupt' && isAlive(found.pid, hooks.kill ?? process.kill.bind(process))) {
      const error = new Error('Another reconcile run is in progress')
      throw Object.assign(error, { code: 'E_LOCK_CONTENTION', recoverable: true })
    }
    await hooks.beforeUnlink?.()
    await fs.unlink(path)
  }
  await hooks.beforeCreate?.()
  const payload: Payload = { pid: process.pid, createdAt: Date.now() }
  await fs.writeFile(path, JSON.stringify(payload), { flag: 'wx', mode: 0o600 })
}

export async function releaseLock(cwd = process.cwd()): Promise<void> {
  await fs.rm(resolveLockPath(cwd), { force: true })
}
