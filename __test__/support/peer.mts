// Executes the commands of a test in a separate process.
import type { LockError } from 'reconcile-lock'
import * as legacy from '../legacy/lock.mjs'
import type { Answer, Command } from './child.mjs'
import { lock } from './lock.mjs'

const { acquireLock, breakLock, inspectLock, releaseLock } = lock

const umask = process.env.PEER_UMASK
if (umask) process.umask(Number(umask))

async function act(command: Command): Promise<unknown> {
  const { cwd, options } = command
  const target = options ? { cwd, ...options } : cwd
  const lock = command.lock === 'legacy' ? legacy : { acquireLock, releaseLock }
  while (command.at !== undefined && Date.now() < command.at);
  switch (command.do) {
    case 'acquire':
      return ((await lock.acquireLock(target as string)) as { takenOver?: unknown } | undefined)?.takenOver
    case 'release':
      return lock.releaseLock(cwd)
    case 'inspect':
      return inspectLock(target)
    case 'break':
    case 'force':
      return breakLock({ cwd, ...options, force: command.do === 'force' })
    case 'exit':
      return process.exit(3)
    case 'end':
      return process.disconnect()
    case 'throw':
      setImmediate(() => {
        throw new Error('uncaught')
      })
      return undefined
    case 'forget':
      globalThis.gc?.()
      await new Promise((resolve) => setImmediate(resolve))
      globalThis.gc?.()
      return typeof globalThis.gc
  }
}

process.on('message', (command: Command) => {
  act(command).then(
    (value) => process.connected && process.send?.({ ok: true, value } satisfies Answer),
    (error: NodeJS.ErrnoException & Partial<LockError>) => {
      const { name, message, syscall, path, holder, reason } = error
      const answer = { ok: false, name, message, code: String(error.code), syscall, path, holder, reason }
      process.send?.(answer satisfies Answer)
    },
  )
})
