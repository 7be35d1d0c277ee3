// Inspects or breaks a lock until it receives a message. Usage: poller-process.mjs inspect|break DIRECTORY
import { setImmediate as turn } from 'node:timers/promises'
import type { LockStatus } from 'reconcile-lock'
import { lock } from '../support/lock.mjs'
import type { Observed } from './poller.mjs'

const { breakLock, inspectLock, inspectLockSync } = lock

const [, , what = '', cwd = ''] = process.argv
const observed: Observed = { count: 0, states: {}, holders: [] }
let go = true
process.on('message', () => {
  go = false
})
const holders = new Set<number>()
function observe({ state, holder }: LockStatus): void {
  observed.states[state] = (observed.states[state] ?? 0) + 1
  if (holder) holders.add(holder.pid)
}
const refused = (error: NodeJS.ErrnoException) => {
  if (error.code !== 'E_LOCK_CONTENTION') throw error
}

process.send?.('ready')
while (go) {
  if (what === 'break') {
    await breakLock(cwd).catch(refused)
  } else {
    observe(inspectLockSync(cwd))
    observe(await inspectLock(cwd))
  }
  observed.count += 1
  if (observed.count % 10 === 0) await turn()
}
// It ends when the parent disconnects: an exit could come before the message.
process.send?.({ ...observed, holders: [...holders] })
