// The code that file locks, PostgreSQL locks and the command line share, in one bundle: one `LockError`, one clock.
// A plain object loads faster than the getters that a bundler makes of `export *`.
import type * as abort from './abort.js'
import { isSignal, onAbort } from './abort.js'
import type * as abortableModule from './abortable.js'
import { abortable, releaseLateAcquire } from './abortable.js'
import type * as channels from './channels.js'
import {
  hasEndSubscribers,
  hasLossSubscribers,
  hasWaitSubscribers,
  publishAcquired,
  publishContended,
  publishEnded,
  publishWaiting,
} from './channels.js'
import type * as clock from './clock.js'
import { clearTimeout, delay, MAX_TIMER_MS, monotonic, now, setImmediate, setTimeout } from './clock.js'
import type * as deadlock from './deadlock.js'
import { deadlockReason } from './deadlock.js'
import type * as errors from './errors.js'
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
import type * as globals from './globals.js'
import { builtin, NativePromise, process } from './globals.js'
import type * as inherit from './inherit.js'
import { DESCRIPTOR } from './inherit.js'
import type * as plain from './plain.js'
import { isPlain } from './plain.js'
import type * as slots from './slots.js'
import { MAX_SLOTS, slotPaths } from './slots.js'
import type * as thisHostModule from './this-host.js'
import { thisHost } from './this-host.js'
import type * as withLock from './with-lock.js'
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
} satisfies typeof abort &
  typeof abortableModule &
  typeof channels &
  typeof clock &
  typeof deadlock &
  typeof errors &
  typeof globals &
  typeof inherit &
  typeof plain &
  typeof slots &
  typeof thisHostModule &
  typeof withLock
