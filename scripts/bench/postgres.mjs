// What a lock on PostgreSQL costs and how long it is waited for, beside the server's own advisory locks.
import { tmpdir } from 'node:os'
import { installPostgres } from '../postgres.mjs'
import { root } from '../steps.mjs'
import { batch, measure } from './batch.mjs'
import { figuresOf, samplesOf, soon, table, withinPeriod } from './handover.mjs'
import { filesystem } from './media.mjs'
import { endAll } from './peers.mjs'
import { columns, micro, whole } from './report.mjs'
import { takeTurns } from './rounds.mjs'
import { median } from './statistics.mjs'
import { targets } from './targets.mjs'
import { postgresFloor, postgresFlushed, postgresPollingName } from './waits.mjs'

const place = 'PostgreSQL'

/** One open connection, and a table of one row in it. */
async function connected(url) {
  const { default: pg } = await import('pg')
  const client = new pg.Client(url)
  await client.connect()
  await client.query('CREATE TABLE flushed (value integer); INSERT INTO flushed VALUES (0)')
  return client
}

/** The least that a lock can do, that with one row written to the disk, and ours. */
function contenders(client, locks) {
  const bare = async (between) => {
    await client.query('SELECT pg_try_advisory_lock($1)', [3])
    await between?.()
    await client.query('SELECT pg_advisory_unlock($1)', [3])
  }
  return [
    { name: postgresFloor, fn: () => bare() },
    {
      name: postgresFlushed,
      fn: () => bare(() => client.query('UPDATE flushed SET value = value + 1')),
    },
    {
      name: 'acquireLock + release',
      fn: async () => {
        const lock = await locks.acquireLock()
        await lock.release()
      },
    },
  ]
}

async function pairs(url, rounds) {
  const { postgresLocks } = await import(`${root}dist/postgres.js`)
  const client = await connected(url)
  const locks = postgresLocks({ connectionString: url })
  try {
    const all = contenders(client, locks).map((about) => ({ ...about, async: true }))
    const samples = await takeTurns(
      all.map((contender) => ({ sample: () => measure(contender) })),
      rounds,
    )
    const [least] = samples.map(median)
    return all.map(({ name }, index) => {
      const medianNs = median(samples[index])
      return { name, medianNs, perSecond: 1e9 / medianNs, ratio: medianNs / least, rounds: samples[index] }
    })
  } finally {
    await Promise.all([locks.close(), client.end()])
  }
}

function pairTable(results) {
  const rows = results.map(({ name, perSecond, medianNs, ratio }) => [
    name,
    whole(perSecond),
    micro(medianNs),
    ratio.toFixed(2),
  ])
  return columns([['acquire + release', 'per second', 'median us', 'x floor'], ...rows], 1)
}

const waiting = [
  { name: 'acquireLock', kind: 'postgres', wait: soon },
  { name: 'pg_advisory_lock', kind: 'postgres-bare', wait: soon },
  { name: postgresPollingName, kind: 'postgres-polled', wait: withinPeriod, share: 0.3 },
]

async function measured(server, rounds, samples) {
  const url = server.url()
  const [{ version }] = await server.sql("SELECT current_setting('server_version') AS version")
  const costs = await pairs(url, rounds)
  const handovers = await samplesOf(
    'handOver',
    waiting.map((about) => ({ ...about, place: url })),
    samples,
  )
  const text = [
    `version ${version}, on loopback, its data on ${filesystem(tmpdir())} (${tmpdir()})`,
    `  ${rounds} interleaved rounds, ${batch} ms each; the floor is two statements on one open connection`,
    pairTable(costs),
    '  from just before the release until the waiter, another process, holds the lock',
    table({ results: handovers }),
  ].join('\n')
  const ratios = Object.fromEntries(costs.map(({ name, medianNs }) => [name, medianNs]))
  const figures = { ...ratios, ...figuresOf({ results: handovers }) }
  return { medium: place, results: { version, pairs: costs, handovers }, figures, text }
}

/** Every figure that a target asks for, with the reason why there is none. */
function skipped(reason) {
  const asked = targets.filter(({ section }) => section === 'postgres')
  const names = asked.flatMap(({ of, to }) => (to === undefined ? [of] : [of, to]))
  const figures = Object.fromEntries(names.map((name) => [name, reason]))
  return { medium: place, results: { skipped: reason }, figures, text: `skipped, ${reason}` }
}

/**
 * Measures with a server of its own.
 * @param {{ rounds: number, samples: number }} setting
 * @param {string | undefined} missing why there is no server
 */
export async function postgres({ rounds, samples }, missing = installPostgres()) {
  if (missing !== undefined) return [skipped(missing)]
  // Only after the build there is anything to import.
  const { Postgres } = await import(`${root}build/__test__/postgres/postgres.mjs`)
  const server = await Postgres.start({ isDurable: true })
  try {
    return [await measured(server, rounds, samples)]
  } finally {
    // They would not survive the end of their connections.
    await endAll()
    await server.stop()
  }
}
