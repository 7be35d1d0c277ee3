// A process that acquires and releases in one way only, because a channel that had a listener stays slower.
// Usage: node pair.mjs KIND DIRECTORY; its orders:
//   measure  the mean nanoseconds of a pair
//   count    how often a pair read a clock or the lock's holder, which messages consist of
import { subscribe } from 'node:diagnostics_channel'
import { createRequire } from 'node:module'
import { root } from '../steps.mjs'
import { measure } from './measure.mjs'
import { serve } from './workers.mjs'

const require = createRequire(import.meta.url)
const [kind, directory] = process.argv.slice(2)
const channels = ['acquired', 'contended', 'waiting', 'takenover', 'released', 'lost']

const facade = () => {
  const { acquireLockSync } = require(`${root}dist/index.js`)
  return () => acquireLockSync(directory).releaseSync()
}

/** The settings of a call without options: mode 0600, and legacy processes may use the file. */
const DEFAULTS = 0o1600

/** How many messages were published, and how many pairs ran. */
const counts = { messages: 0, pairs: 0 }

const kinds = {
  binding() {
    // The package loads the addon and sets it up.
    require(`${root}dist/index.js`)
    const { acquireSync, releaseHeldSync } = require(
      Object.keys(require.cache).find((path) => path.endsWith('.node')),
    )
    // As the package passes them.
    const toJsLock = (id, path, createdAt, takenOver, shared) => ({ id, path, createdAt, takenOver, shared })
    const toFailure = (...fields) => fields
    const acquire = () => acquireSync(directory, undefined, undefined, DEFAULTS, 0, 0, toJsLock, toFailure)
    return () => releaseHeldSync(acquire().id)
  },
  /** The facade, with empty functions instead of those that publish. */
  silent() {
    const path = require.resolve(`${root}dist/shared.js`)
    const shared = require(path)
    const silent = Object.keys(shared).filter((name) => /^publish|Subscribers$/.test(name))
    require.cache[path].exports = {
      ...shared,
      ...Object.fromEntries(silent.map((name) => [name, () => false])),
    }
    return facade()
  },
  unheard: facade,
  heard() {
    for (const name of channels)
      subscribe(`reconcile-lock:${name}`, () => {
        counts.messages += 1
      })
    return facade()
  },
}

/** Loads the package at the first order, because it captures the clocks when it loads. */
let pair
const load = () => {
  pair ??= kinds[kind]()
}
const counted = () => {
  counts.pairs += 1
  pair()
}

async function measurePairs() {
  load()
  const mean = await measure(counted, false)
  // `acquired` and `released`, of each pair.
  const expected = kind === 'heard' ? 2 * counts.pairs : 0
  if (counts.messages !== expected) throw new Error(`${counts.pairs} pairs, ${counts.messages} messages`)
  return mean
}

/** Calls `seen` before each call or read of `object[name]`. */
function spy(object, name, seen) {
  const known = Object.getOwnPropertyDescriptor(object, name)
  const wrapped = (original) =>
    function (...args) {
      seen()
      return original.apply(this, args)
    }
  const spied = known.get ? { get: wrapped(known.get) } : { value: wrapped(known.value) }
  Object.defineProperty(object, name, { ...known, ...spied })
}

/** The only order of its process: the spies must precede the package, and slow it down. */
function countReads() {
  if (pair) throw new Error('the package is loaded and has its clocks')
  const times = 1000
  let reads = 0
  const seen = () => {
    reads += 1
  }
  spy(process.hrtime, 'bigint', seen)
  spy(Date, 'now', seen)
  load()
  const lock = require(`${root}dist/index.js`).acquireLockSync(directory)
  lock.releaseSync()
  spy(Object.getPrototypeOf(lock), 'holder', seen)
  reads = 0
  for (let turn = 0; turn < times; turn += 1) pair()
  return reads / times
}

serve({ measure: measurePairs, count: countReads })
