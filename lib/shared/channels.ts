import { type Channel, channel, subscribe } from 'node:diagnostics_channel'
import { debuglog } from 'node:util'
import type { Lock, LockChannels, LockError, WaitStatus } from '../../index.js'
import { now } from './clock.js'

/** The properties of a lock in the messages. */
type PublishedLock = Pick<Lock, 'path' | 'holder'> & Partial<Pick<Lock, 'takenOver'>>
type Refusal = Pick<LockError, 'path' | 'holder' | 'reason'>

const named = (name: keyof LockChannels): Channel => channel(name)

const channels = {
  acquired: named('reconcile-lock:acquired'),
  contended: named('reconcile-lock:contended'),
  waiting: named('reconcile-lock:waiting'),
  takenover: named('reconcile-lock:takenover'),
  released: named('reconcile-lock:released'),
  lost: named('reconcile-lock:lost'),
}

if (process.env.NODE_DEBUG) {
  const debug = debuglog('reconcile-lock')
  for (const [event, { name }] of Object.entries(channels))
    if (debug.enabled) subscribe(name, (message) => debug('%s %j', event, message))
}

/** @param call `undefined`: it did not wait */
export function publishAcquired(lock: PublishedLock, call?: { waited(): number }): void {
  if (channels.takenover.hasSubscribers && lock.takenOver) {
    const { path, holder, takenOver } = lock
    const { holder: from, reason } = takenOver
    channels.takenover.publish({ path, at: now(), holder, ...(from && { from }), reason })
  }
  if (channels.acquired.hasSubscribers) {
    const { path, holder, takenOver } = lock
    const times = { at: now(), waited: call?.waited() ?? 0 }
    channels.acquired.publish({ path, ...times, holder, ...(takenOver && { takenOver }) })
  }
}

export function publishContended({ path, holder, reason }: Refusal): void {
  if (!channels.contended.hasSubscribers) return
  const details = { ...(holder && { holder }), ...(reason !== undefined && { reason }) }
  channels.contended.publish({ path, at: now(), ...details })
}

export const publishWaiting = (status: WaitStatus): void => channels.waiting.publish({ at: now(), ...status })

/** Publishes the end of a held lock: its release or its loss. */
export function publishEnded(lock: PublishedLock, lost?: { reason?: string | undefined }): void {
  const end = lost ? channels.lost : channels.released
  if (!end.hasSubscribers) return
  const { path, holder } = lock
  const at = now()
  const message = { path, at, holder, held: Math.max(0, at - holder.createdAt) }
  end.publish(lost ? { ...message, reason: lost.reason } : message)
}

export const hasLossSubscribers = (): boolean => channels.lost.hasSubscribers

export const hasEndSubscribers = (): boolean => channels.released.hasSubscribers || hasLossSubscribers()

export const hasWaitSubscribers = (): boolean => channels.waiting.hasSubscribers
