// A process that acquires and releases in one way only, because a channel that had a listener stays slower.
// Usage: node pair.mjs KIND DIRECTORY; its order `measure` returns the mean nanoseconds of a pair.
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

let messages = 0
let pairs = 0

const kinds = {
  binding() {
    // The package loads the addon and sets it up.
    require(`${root}dist/index.js`)
    const { acquireSync, releaseHeldSync } = require(
      Object.keys(require.cache).find((path) => path.endsWith('.node')),
    )
    const acquire = () => acquireSync(directory, undefined, undefined, DEFAULTS, 0, 0)
    return () => releaseHeldSync(acquire().id)
  },
  /** The facade, with empty functions instead of those that publish. */
  silent() {
    const path = require.resolve(`${root}dist/shared.js`)
    const shared = require(path)
    const silent = Object.keys(shared).filter((name) => /^publish|Subscribers$/.test(name))
    const replaced = Object.fromEntries(silent.map((name) => [name, () => false]))
    require.cache[path].exports = { ...shared, ...replaced }
    return facade()
  },
  unheard: facade,
  heard() {
    for (const name of channels)
      subscribe(`reconcile-lock:${name}`, () => {
        messages += 1
      })
    return facade()
  },
}

const pair = kinds[kind]()

async function measurePairs() {
  const mean = await measure(() => {
    pairs += 1
    pair()
  }, false)
  // `acquired` and `released`, of each pair.
  const expected = kind === 'heard' ? 2 * pairs : 0
  if (messages !== expected) throw new Error(`${pairs} pairs, ${messages} messages`)
  return mean
}

serve({ measure: measurePairs })
