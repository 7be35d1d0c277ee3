// A process that acquires and releases in one way only, because a channel that had a listener stays slower.
// Usage: node pair.mjs KIND DIRECTORY; for each line on standard input it prints `mean` with the nanoseconds of a pair.
import { subscribe } from 'node:diagnostics_channel'
import { writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { root } from '../steps.mjs'
import { measure } from './measure.mjs'

const require = createRequire(import.meta.url)
const [kind, directory] = process.argv.slice(2)
const channels = ['acquired', 'contended', 'waiting', 'takenover', 'released', 'lost']

const facade = () => {
  const { acquireLockSync } = require(`${root}dist/index.js`)
  return () => acquireLockSync(directory).releaseSync()
}

/** How many messages were published, and how many pairs ran. */
const counts = { messages: 0, pairs: 0 }

const kinds = {
  binding() {
    // The package loads the addon and sets it up.
    require(`${root}dist/index.js`)
    const { acquireSync, releaseHeldSync } = require(
      Object.keys(require.cache).find((path) => path.endsWith('.node')),
    )
    return () => releaseHeldSync(acquireSync(directory, undefined, undefined, true, 0, 0).id)
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

const pair = kinds[kind]()
const counted = () => {
  counts.pairs += 1
  pair()
}

async function mean() {
  const mean = await measure(counted, false)
  // `acquired` and `released`, of each pair.
  const expected = kind === 'heard' ? 2 * counts.pairs : 0
  if (counts.messages !== expected) throw new Error(`${counts.pairs} pairs, ${counts.messages} messages`)
  return mean
}

const lines = createInterface({ input: process.stdin })
lines.on('line', async () => writeSync(1, `mean ${await mean()}\n`))
lines.on('close', () => process.exit(0))
writeSync(1, `ready ${process.hrtime.bigint()}\n`)
