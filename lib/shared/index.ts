// The code that file locks, PostgreSQL locks and the command line share, in one bundle: one `LockError`, one clock.
// A plain object loads faster than the getters that a bundler makes of `export *`.
import { isSignal, onAbort } from './abort.js'
import { abortable, releaseLateAcquire } from './abortable.js'
import {
  hasEndSubscribers,
  hasLossSubscribers,
  hasWaitSubscribers,
  publishAcquired,
  publishContended,
  publishEnded,
  publishWaiting,
} from './channels.js'
import { clearTimeout, delay, MAX_TIMER_MS, monotonic, now, setImmediate, setTimeout } from './clock.js'
import { deadlockReason } from './deadlock.js'
import {
  argumentError,
  contention,
  isContention,
  LockError,
  lockError,
  lossError,
  MESSAGE,
  outOfRange,
  warn,
  withoutStack,
  wrongValue,
} from './errors.js'
import { builtin, NativePromise, process } from './globals.js'
import { DESCRIPTOR } from './inherit.js'
import { isPlain } from './plain.js'
import { MAX_SLOTS, slotPaths } from './slots.js'
import { thisHost } from './this-host.js'
import { createWithLock } from './with-lock.js'

export = {
  abortable,
  argumentError,
  builtin,
  clearTimeout,
  contention,
  createWithLock,
  DESCRIPTOR,
  deadlockReason,
  delay,
  hasEndSubscribers,
  hasLossSubscribers,
  hasWaitSubscribers,
  isContention,
  isPlain,
  isSignal,
  LockError,
  lockError,
  lossError,
  MAX_SLOTS,
  MAX_TIMER_MS,
  MESSAGE,
  monotonic,
  NativePromise,
  now,
  onAbort,
  outOfRange,
  process,
  publishAcquired,
  publishContended,
  publishEnded,
  publishWaiting,
  releaseLateAcquire,
  setImmediate,
  setTimeout,
  slotPaths,
  thisHost,
  warn,
  withoutStack,
  wrongValue,
} satisfies typeof import('./abort.js') &
  typeof import('./abortable.js') &
  typeof import('./channels.js') &
  typeof import('./clock.js') &
  typeof import('./deadlock.js') &
  typeof import('./errors.js') &
  typeof import('./globals.js') &
  typeof import('./inherit.js') &
  typeof import('./plain.js') &
  typeof import('./slots.js') &
  typeof import('./this-host.js') &
  typeof import('./with-lock.js')
