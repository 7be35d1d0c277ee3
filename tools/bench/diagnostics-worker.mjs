// A process that acquires and releases in one way only, because a channel that had a listener stays slower.
// Usage: node diagnostics-worker.mjs KIND DIRECTORY; its order `measure` returns the mean nanoseconds of a pair.
import { subscribe } from 'node:diagnostics_channel'
import { readFileSync } from 'node:fs'
import Module, { createRequire } from 'node:module'
import { join } from 'node:path'
import { root } from '../steps.mjs'
import { measure } from './measure.mjs'
import { serve } from './workers.mjs'

const require = createRequire(import.meta.url)
const [kind, directory] = process.argv.slice(2)
const entry = join(root, 'dist/index.js')
const channels = ['acquired', 'contended', 'waiting', 'takenover', 'released', 'lost']

const facade = () => {
  const { acquireLockSync } = require(entry)
  return () => acquireLockSync(directory).releaseSync()
}

/** The settings of a call without options: mode 0600, and legacy processes may use the file. */
const DEFAULTS = 0o1600

let messages = 0
let pairs = 0

const kinds = {
  binding() {
    // The package loads the addon and sets it up.
    require(entry)
    const { acquireSync, releaseByIdSync } = require(
      Object.keys(require.cache).find((path) => path.endsWith('.node')),
    )
    const acquire = () => acquireSync(directory, undefined, undefined, DEFAULTS, 0, 0)
    return () => releaseByIdSync(acquire().id)
  },
  /** The facade, without the checks for subscribers. */
  silent() {
    const load = Module._extensions['.js']
    Module._extensions['.js'] = (module, path) => {
      if (path !== entry) return load(module, path)
      const checks = /channels\(\)\.\w+\.hasSubscribers/g
      module._compile(readFileSync(path, 'utf8').replace(checks, 'false'), path)
    }
    return facade()
  },
  unsubscribed: facade,
  subscribed() {
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
  const expected = kind === 'subscribed' ? 2 * pairs : 0
  if (messages !== expected) throw new Error(`${pairs} pairs, ${messages} messages`)
  return mean
}

serve({ measure: measurePairs })
