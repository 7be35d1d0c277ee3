// A process that acquires and releases locks of either kind on command.

import type { AnyLock, Asked } from './backend.mjs'
import { type Backend, backendFor } from './backend.mjs'

const [kind = '', place = ''] = process.argv.slice(2)
const backend: Backend = backendFor(kind, place)
const held = new Map<string, AnyLock>()

type Command = { do: 'acquire' | 'release' | 'exit' | 'throw' | 'end'; asked: Asked & { name: string } }

async function carryOut({ do: what, asked }: Command): Promise<unknown> {
  switch (what) {
    case 'acquire': {
      const lock = await backend.acquireLock(asked)
      held.set(asked.name, lock)
      return { holder: lock.holder }
    }
    case 'release':
      await held.get(asked.name)?.release()
      return {}
    case 'exit':
      process.exit(0)
      break
    case 'throw':
      return setImmediate(() => {
        throw new Error('meant to be uncaught')
      })
    case 'end':
      return process.disconnect()
  }
}

process.on('message', async (command: Command) => {
  try {
    const answer = await carryOut(command)
    if (process.connected) process.send?.({ ok: true, ...(answer as object) })
  } catch (error) {
    const { message, code, holder } = error as Error & { code?: string; holder?: unknown }
    process.send?.({ ok: false, message, code, holder })
  }
})
