// A failover to a standby by streaming replication.
import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import pg from 'pg'
import { lockInTransaction, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { until } from '../support/time.mjs'
import { watched } from './client.mjs'
import { Postgres } from './postgres.mjs'

/** For each server and runtime: `npm run test:all` makes more than 50 in total. */
const FAILOVERS = 5

/** Its last record is replicated. Its token is ahead of the clock, so only that record makes the next one higher. */
const REPLICATED = 'replicated'
/** Its last record is lost, so only the clock makes the next token higher. */
const CUT_OFF = 'cut off'
const FAR = BigInt(Date.UTC(2200, 0)) * 1000n

async function acquire(server: Postgres, name: string): Promise<bigint> {
  await using locks = postgresLocks({ connectionString: server.url() })
  await using lock = await locks.acquireLock(name)
  return lock.token
}

async function recorded(server: Postgres, name: string): Promise<bigint> {
  const [row] = await server.sql<{ token: string }>(`SELECT token FROM reconcile_lock WHERE name = '${name}'`)
  return BigInt(row?.token ?? 0)
}

/** A server with the table, and a token that is ahead of the clock. */
async function primary(t: TestContext): Promise<Postgres> {
  const server = await Postgres.start()
  t.after(() => server.stop())
  await acquire(server, REPLICATED)
  await server.sql(`UPDATE reconcile_lock SET token = ${FAR}`)
  return server
}

/** Promotes a standby of a server, which it stops; checks the tokens, and returns the promoted server. */
async function failOver(t: TestContext, server: Postgres): Promise<Postgres> {
  const standby = await server.standby()
  t.after(() => standby.stop())
  const replicated = await acquire(server, REPLICATED)
  await until(async () => (await recorded(standby, REPLICATED)) === replicated, 'the record is replicated')
  await standby.cutOff()
  const lost = await acquire(server, CUT_OFF)
  await standby.promote()
  assert.ok((await recorded(standby, CUT_OFF)) < lost, 'the promoted server does not have the record')
  assert.equal(await acquire(standby, REPLICATED), replicated + 1n)
  const next = await acquire(standby, CUT_OFF)
  assert.ok(next > lost, `${next} after ${lost}`)
  await server.stop()
  return standby
}

test(`tokens grow across ${FAILOVERS} failovers, with and without replicated records`, async (t) => {
  let server = await primary(t)
  for (let turn = 0; turn < FAILOVERS; turn += 1) server = await failOver(t, server)
})

test('calls on a standby reject with E_LOCK_STANDBY', async (t) => {
  const server = await primary(t)
  const standby = await server.standby()
  t.after(() => standby.stop())
  await using primaryLocks = postgresLocks({ connectionString: server.url() })
  await using held = await primaryLocks.acquireLock(REPLICATED)
  await until(async () => (await recorded(standby, REPLICATED)) === held.token, 'the record is replicated')
  await using locks = postgresLocks({ connectionString: standby.url() })
  for (const call of [locks.acquireLock, locks.inspectLock, locks.breakLock]) {
    const { code, recoverable } = await rejection(call(REPLICATED))
    assert.deepEqual([code, recoverable], ['E_LOCK_STANDBY', true], call.name)
  }
})

test('lockInTransaction on a standby rejects with E_LOCK_STANDBY', async (t) => {
  const server = await primary(t)
  const standby = await server.standby()
  t.after(() => standby.stop())
  await using locks = postgresLocks({ connectionString: server.url() })
  await using held = await locks.acquireLock(REPLICATED)
  const client = new pg.Client({ connectionString: standby.url() })
  await client.connect()
  await client.query('BEGIN')
  const { code, recoverable } = await rejection(lockInTransaction(client, REPLICATED))
  assert.deepEqual([code, recoverable, held.isHeld()], ['E_LOCK_STANDBY', true, true])
  await client.end()
})

test('a promotion does not notify holders on the old primary', async (t) => {
  const old = await Postgres.start()
  const standby = await old.standby()
  t.after(() => Promise.all([old.stop(), standby.stop()]))
  let answers = 0
  const connect = () =>
    watched(old.url(), (_, isAnswered) => {
      if (isAnswered) answers += 1
      return undefined
    })
  await using before = postgresLocks({ connect, sessionTimeout: 4000 })
  await using held = await before.acquireLock('both')
  await standby.promote()
  await using after = postgresLocks({ connectionString: standby.url() })
  await using lock = await after.acquireLock('both')
  answers = 0
  await until(() => answers > 0, 'the old primary answers the holder')
  assert.deepEqual([held.isHeld(), lock.isHeld()], [true, true], 'both hold the lock')
  assert.ok(lock.token > held.token, 'and the data store refuses the older token')
})
