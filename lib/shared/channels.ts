import type { Channel } from 'node:diagnostics_channel'
import { debuglog } from 'node:util'
import type { Lock, LockChannels, LockError, WaitStatus } from '../../index.js'
import { now } from './clock.js'
import { builtin } from './globals.js'

/** The properties of a lock in the messages. */
type PublishedLock = Pick<Lock, 'path' | 'holder'> & Partial<Pick<Lock, 'takenOver'>>
type Refusal = Pick<LockError, 'path' | 'holder' | 'reason'>
type Channels = Record<'acquired' | 'contended' | 'waiting' | 'takenover' | 'released' | 'lost', Channel>

/** On a channel whose messages NODE_DEBUG prints: several copies of this code can be loaded. */
const PRINTED = Symbol.for('reconcile-lock.printed')

let opened: Channels | undefined

/** Opened on demand: `node:diagnostics_channel` would be a part of the loading time. */
function channels(): Channels {
  opened ??= openChannels()
  return opened
}

function openChannels(): Channels {
  const { channel, subscribe } = builtin(
    'node:diagnostics_channel',
    () => require('node:diagnostics_channel') as typeof import('node:diagnostics_channel'),
  )
  const named = (name: keyof LockChannels): Channel => channel(name)
  const all = {
    acquired: named('reconcile-lock:acquired'),
    contended: named('reconcile-lock:contended'),
    waiting: named('reconcile-lock:waiting'),
    takenover: named('reconcile-lock:takenover'),
    released: named('reconcile-lock:released'),
    lost: named('reconcile-lock:lost'),
  }
  const debug = debuglog('reconcile-lock')
  if (!debug.enabled || PRINTED in all.acquired) return all
  Object.defineProperty(all.acquired, PRINTED, { value: true })
  for (const [event, { name }] of Object.entries(all))
    subscribe(name, (message) => debug('%s %j', event, message))
  return all
}

// Bun 1.4 forgets a channel that has subscribers and no other reference.
if (process.versions.bun) channels()

/** @param call `undefined`: it did not wait */
export function publishAcquired(lock: PublishedLock, call?: { waited(): number }): void {
  if (channels().takenover.hasSubscribers && lock.takenOver) {
    const { path, holder, takenOver } = lock
    const { holder: from, reason } = takenOver
    channels().takenover.publish({ path, at: now(), holder, ...(from && { from }), reason })
  }
  if (channels().acquired.hasSubscribers) {
    const { path, holder, takenOver } = lock
    const times = { at: now(), waited: call?.waited() ?? 0 }
    channels().acquired.publish({ path, ...times, holder, ...(takenOver && { takenOver }) })
  }
}

export function publishContended({ path, holder, reason }: Refusal): void {
  if (!channels().contended.hasSubscribers) return
  const details = { ...(holder && { holder }), ...(reason !== undefined && { reason }) }
  channels().contended.publish({ path, at: now(), ...details })
}

export const publishWaiting = (status: WaitStatus): void =>
  channels().waiting.publish({ at: now(), ...status })

/** Publishes the end of a held lock: its release or its loss. */
export function publishEnded(lock: PublishedLock, lost?: { reason?: string | undefined }): void {
  const end = lost ? channels().lost : channels().released
  if (!end.hasSubscribers) return
  const { path, holder } = lock
  const at = now()
  const message = { path, at, holder, held: Math.max(0, at - holder.createdAt) }
  end.publish(lost ? { ...message, reason: lost.reason } : message)
}

export const hasLossSubscribers = (): boolean => channels().lost.hasSubscribers

export const hasEndSubscribers = (): boolean => channels().released.hasSubscribers || hasLossSubscribers()

export const hasWaitSubscribers = (): boolean => channels().waiting.hasSubscribers
