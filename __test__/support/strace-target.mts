// A process to which strace is attached: it makes the same call synchronously and asynchronously.
import { readdirSync } from 'node:fs'
import type { Lock } from 'reconcile-lock'
import { lock } from './lock.mjs'
import type { Order, Outcome, Report } from './strace.mjs'

const acquired: Lock[] = []

const takeOver = ({ takenOver }: Lock) => ({ takenOver: takenOver?.holder?.pid ?? takenOver?.reason })

function keep(got: Lock) {
  acquired.push(got)
  return takeOver(got)
}

const calls = {
  acquire: {
    sync: (cwd: string) => keep(lock.acquireLockSync(cwd)),
    async: async (cwd: string) => keep(await lock.acquireLock(cwd)),
  },
  durable: {
    sync: (cwd: string) => keep(lock.acquireLockSync({ cwd, durable: true })),
    async: async (cwd: string) => keep(await lock.acquireLock({ cwd, durable: true })),
  },
  release: {
    sync: (cwd: string) => lock.releaseLockSync(cwd),
    async: (cwd: string) => acquired.find(({ path }) => path === lock.resolveLockPath(cwd))?.release(),
  },
  inspect: {
    sync: (cwd: string) => lock.inspectLockSync(cwd).state,
    async: async (cwd: string) => (await lock.inspectLock(cwd)).state,
  },
  break: { sync: undefined, async: (cwd: string) => lock.breakLock(cwd) },
  force: { sync: undefined, async: (cwd: string) => lock.breakLock({ cwd, force: true }) },
}

async function outcome(call: ((cwd: string) => unknown) | undefined, cwd: string): Promise<Outcome> {
  if (call === undefined) return { skipped: true }
  try {
    return { value: await call(cwd) }
  } catch (error) {
    const { name, code, errno, syscall, path, message } = error as NodeJS.ErrnoException
    return { error: { name, code, errno, syscall, path, message } }
  }
}

async function obey({ do: what, sync, async }: Order): Promise<Report> {
  if (what === 'hold') for (const cwd of [sync, async]) acquired.push(lock.acquireLockSync(cwd))
  else if (what === 'settle') {
    for (const held of acquired.splice(0)) await held.release().catch(() => {})
  } else if (what !== 'count') {
    return {
      sync: await outcome(calls[what].sync, sync),
      async: await outcome(calls[what].async, async),
    }
  }
  return { descriptors: readdirSync('/proc/self/fd').length }
}

process.on('message', async (order: Order) => process.send?.(await obey(order)))
