// What a lock on PostgreSQL costs and how long it is waited for, beside the server's own advisory locks.
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import pg from 'pg'
import { Postgres } from '../../build/__test__/postgres/postgres.mjs'
import { columns } from '../cli.mjs'
import { installPostgres } from '../debian.mjs'
import { filesystem } from '../places.mjs'
import { batch, measure, median, micro, takeTurns, whole } from './measure.mjs'
import { postgresFloor, postgresFlushed, postgresPolling, targets } from './targets.mjs'
import { figuresOf, samplesOf, soon, table, withinPeriod } from './waiting.mjs'
import { endAll } from './workers.mjs'

const medium = 'PostgreSQL'

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
  const contenders = [
    { name: postgresFloor, fn: () => bare() },
    { name: postgresFlushed, fn: () => bare(() => client.query('UPDATE flushed SET value = value + 1')) },
    { name: 'acquireLock + release', fn: async () => (await locks.acquireLock()).release() },
  ].map((about) => ({ ...about, sample: () => measure({ ...about, async: true }) }))
  try {
    const samples = await takeTurns(contenders, rounds)
    return contenders.map(({ name }, index) => {
      const medianNs = median(samples[index])
      const ratio = medianNs / median(samples[0])
      return { name, medianNs, perSecond: 1e9 / medianNs, ratio, rounds: samples[index] }
    })
  } finally {
    await Promise.all([locks.close(), client.end()])
  }
}

/** Measures with a server of its own; without one, every figure that a target needs is the reason. */
export async function postgres({ rounds, samples }) {
  const missing = installPostgres()
  if (missing !== undefined) {
    const names = targets.flatMap(({ section, of, to }) => (section === 'postgres' ? [of, to] : []))
    const figures = Object.fromEntries(names.map((name) => [name, missing]))
    return [{ medium, results: { skipped: missing }, figures, text: `skipped, ${missing}` }]
  }
  const server = await Postgres.start({ isDurable: true })
  try {
    const url = server.url()
    const [{ version }] = await server.sql("SELECT current_setting('server_version') AS version")
    const costs = await pairs(url, rounds)
    const waiting = [
      { name: 'acquireLock', kind: 'postgres', wait: soon },
      { name: 'pg_advisory_lock', kind: 'postgres-bare', wait: soon },
      { name: postgresPolling, kind: 'postgres-polled', wait: withinPeriod, share: 0.3 },
    ].map((about) => ({ ...about, place: url }))
    const handovers = await samplesOf('handOver', waiting, samples)
    const rows = costs.map(({ name, perSecond, medianNs, ratio }) => [
      ...[name, whole(perSecond), micro(medianNs), ratio.toFixed(2)],
    ])
    const text = [
      `version ${version}, on loopback, its data on ${filesystem(tmpdir())} (${tmpdir()})`,
      `  ${rounds} interleaved rounds, ${batch} ms each; the floor is two statements on one open connection`,
      columns([['acquire + release', 'per second', 'median us', 'x floor'], ...rows], 1),
      '  from just before the release until the waiter, another process, holds the lock',
      table(handovers),
    ].join('\n')
    const ratios = Object.fromEntries(costs.map(({ name, medianNs }) => [name, medianNs]))
    const figures = { ...ratios, ...figuresOf(handovers) }
    return [{ medium, results: { version, pairs: costs, handovers }, figures, text }]
  } finally {
    // They would not survive the end of their connections.
    await endAll()
    await server.stop()
  }
}
