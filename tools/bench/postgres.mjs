// The cost of a lock on PostgreSQL and of waiting for it, compared with the server's own advisory locks.
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import pg from 'pg'
import { Postgres } from '../../build/__test__/postgres/postgres.mjs'
import { installPostgres } from '../debian.mjs'
import { filesystem } from '../filesystems.mjs'
import { measure, median, rowsOf, takeTurns } from './measure.mjs'
import { postgresFlushed, postgresPolling } from './targets.mjs'
import { latencies, soon, withinPeriod } from './waiting.mjs'
import { endAll } from './workers.mjs'

async function pairs(url, rounds) {
  const { postgresLocks } = createRequire(import.meta.url)('reconcile-lock/postgres')
  const client = new pg.Client(url)
  await client.connect()
  await client.query('CREATE TABLE flushed (value integer); INSERT INTO flushed VALUES (0)')
  const locks = postgresLocks({ connectionString: url })
  const bare = async (between) => {
    await client.query('SELECT pg_try_advisory_lock($1)', [3])
    await between?.()
    await client.query('SELECT pg_advisory_unlock($1)', [3])
  }
  const flushed = () => client.query('UPDATE flushed SET value = value + 1')
  const pair = async () => (await locks.acquireLock()).release()
  const contenders = [
    { name: 'pg_try_advisory_lock + pg_advisory_unlock', sample: () => measure(() => bare()) },
    { name: postgresFlushed, sample: () => measure(() => bare(flushed)) },
    { name: 'acquireLock + release', sample: () => measure(pair) },
  ]
  try {
    const measured = await takeTurns(contenders, rounds)
    return rowsOf(measured, (samples, floor) => ({
      'per second': 1e9 / median(samples),
      'median us': median(samples) / 1000,
      'x floor': median(samples) / median(floor),
    }))
  } finally {
    await Promise.all([locks.close(), client.end()])
  }
}

/** Measures with a separate server. */
export async function postgres({ rounds, samples }) {
  const medium = 'PostgreSQL'
  const reason = installPostgres()
  if (reason !== undefined) {
    console.log(`\npostgres: skipped, ${reason}`)
    return []
  }
  const server = await Postgres.start({ isDurable: true })
  try {
    const url = server.url()
    const [{ version }] = await server.sql("SELECT current_setting('server_version') AS version")
    const title = `acquire and release by version ${version}, its data on ${filesystem(tmpdir())} (${tmpdir()})`
    const costs = { medium, title, rows: await pairs(url, rounds) }
    const waiting = [
      { name: 'acquireLock', kind: 'postgres', wait: soon },
      { name: 'pg_advisory_lock', kind: 'postgres-bare', wait: soon },
      { name: postgresPolling, kind: 'postgres-polled', wait: withinPeriod, share: 0.3 },
    ].map((about) => ({ ...about, place: url }))
    const rows = await latencies(waiting, samples)
    return [costs, { medium, title: 'from just before the release until the waiter holds the lock', rows }]
  } finally {
    // Before the server stops, because they need their connections.
    await endAll()
    await server.stop()
  }
}
