// Tokens grow with each acquisition, also after a kill, a loss of the row, or a change of the clock.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, type TestContext, test } from 'node:test'
import { type PostgresLocks, postgresLocks } from 'reconcile-lock/postgres'
import { Postgres, USER } from '../postgres/postgres.mjs'
import { until } from '../support/time.mjs'
import { StressTest } from './stress.mjs'
import { takeNotes, verdict } from './tokens.mjs'

const ACQUISITIONS = 10_000
const PROCESSES = 6
/** Its tokens come from the clock. */
const BY_CLOCK = 'by the clock'
/** Its tokens follow the last one, which is from before the clock was set back. */
const BY_ROW = 'by the row'
const FAR = BigInt(Date.UTC(2200, 0)) * 1000n

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

function locksOf(t: TestContext): PostgresLocks {
  const locks = postgresLocks({ connectionString: postgres.url() })
  t.after(() => locks.close())
  return locks
}

async function tokenOf(locks: PostgresLocks, name: string): Promise<bigint> {
  await using lock = await locks.acquireLock({ name, timeout: 10_000 })
  return lock.token
}

const grows = (tokens: bigint[]): void =>
  assert.deepEqual(
    tokens,
    [...new Set(tokens)].sort((a, b) => (a < b ? -1 : 1)),
  )

/** As if the clock had been set back after the last acquisition. */
const setBack = (name: string): Promise<unknown> =>
  postgres.sql(`UPDATE reconcile_lock SET token = ${FAR} WHERE name = '${name}'`)

test('tokens are microseconds of the clock and grow', async (t) => {
  const locks = locksOf(t)
  const from = BigInt(Date.now()) * 1000n
  const tokens = []
  for (let turn = 0; turn < 100; turn += 1) tokens.push(await tokenOf(locks, 'clock'))
  grows([from - 1000n, ...tokens, BigInt(Date.now() + 1) * 1000n])
})

test('tokens grow by one after the clock was set back', async (t) => {
  const locks = locksOf(t)
  const first = await tokenOf(locks, 'future')
  await setBack('future')
  const tokens = [await tokenOf(locks, 'future'), await tokenOf(locks, 'future')]
  assert.deepEqual(tokens, [FAR + 1n, FAR + 2n])
  assert.ok(first < FAR)
})

test('tokens grow after a failover that lost acquisitions', async (t) => {
  const locks = locksOf(t)
  const tokens = []
  for (let turn = 0; turn < 3; turn += 1) tokens.push(await tokenOf(locks, 'lost'))
  await postgres.sql(`UPDATE reconcile_lock SET token = ${tokens[0]} WHERE name = 'lost'`)
  grows([...tokens, await tokenOf(locks, 'lost')])
})

test('tokens grow after the row, table or schema is dropped', async (t) => {
  const locks = locksOf(t)
  const tokens = [await tokenOf(locks, 'gone')]
  for (const loss of [
    "DELETE FROM reconcile_lock WHERE name = 'gone'",
    'TRUNCATE reconcile_lock',
    'DROP TABLE reconcile_lock',
    `DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION ${USER}`,
  ]) {
    // Before PostgreSQL 15 the owner of a database does not own its schema.
    await postgres.sql(loss, 'ledger', 'postgres')
    tokens.push(await tokenOf(locks, 'gone'))
  }
  grows(tokens)
})

test('concurrent first acquires get growing tokens for each name', async (t) => {
  await postgres.sql('DROP TABLE IF EXISTS reconcile_lock')
  const all = Array.from({ length: 8 }, () => locksOf(t))
  const names = Array.from({ length: 4 }, (_, index) => `name ${index}`)
  const found = new Map<string, bigint[]>(names.map((name) => [name, []]))
  const turns = all.map(async (locks, index) => {
    for (let turn = 0; turn < 10; turn += 1) {
      const name = names[(index + turn) % names.length] ?? ''
      await using lock = await locks.acquireLock({ name, timeout: 10_000 })
      found.get(name)?.push(lock.token)
    }
  })
  await Promise.all(turns)
  for (const tokens of found.values()) {
    assert.equal(tokens.length, 20)
    grows(tokens)
  }
  await setBack('name 0')
  const others = [
    await tokenOf(all[0] as PostgresLocks, 'name 1'),
    await tokenOf(all[1] as PostgresLocks, 'name 0'),
  ]
  grows(others)
  assert.ok((others[0] ?? FAR) < FAR)
})

test('a confirmed acquire survives a crash without synchronous_commit', async (t) => {
  const locks = locksOf(t)
  await tokenOf(locks, 'crash')
  await setBack('crash')
  const set = `ALTER ROLE ${USER} SET synchronous_commit`
  await postgres.sql(`${set} = off`, 'ledger', 'postgres')
  await locks.close()
  const lock = await locks.acquireLock('crash')
  await Promise.all([once(lock.signal, 'abort'), postgres.down('SIGQUIT')])
  await assert.rejects(lock.release(), { code: 'E_LOCK_LOST' })
  await postgres.up()
  await postgres.sql(`ALTER ROLE ${USER} RESET synchronous_commit`, 'ledger', 'postgres')
  grows([lock.token, await tokenOf(locks, 'crash')])
})

test(`${ACQUISITIONS} acquisitions with kills and a crash repeat no token`, async (t) => {
  const locks = locksOf(t)
  await tokenOf(locks, BY_ROW)
  await takeNotes(postgres)
  // This is noted too: later tokens must be higher.
  await setBack(BY_ROW)
  const names = [BY_CLOCK, BY_ROW]
  const run = new StressTest(postgres, { names, ways: ['wait'], clients: 2, writes: 0, falls: 1 / 400 })
  t.after(() => run.end())
  run.start(PROCESSES)
  const end = new AbortController()
  const strikes = run.strike('terminateOne', 300, end.signal)
  const parts = 50
  for (let part = 1; part <= parts; part += 1) {
    const count = (ACQUISITIONS / parts) * part
    await until(() => run.tokens.length >= count, `${count} acquisitions`)
    if (part === parts / 2) await run.between(() => postgres.down('SIGQUIT').then(() => postgres.up()))
  }
  end.abort()
  await strikes
  await run.stop()
  const found = await verdict(postgres)
  run.report(t, found)
  assert.deepEqual(run.faults, [])
  const documented = ['released', 'lost', 'session ended', 'server down']
  assert.deepEqual(
    Object.keys(run.kinds).filter((kind) => !documented.includes(kind)),
    [],
  )
  assert.ok(found.acquisitions >= run.tokens.length && run.takeOvers > 5)
  assert.equal(new Set(run.tokens).size, run.tokens.length, 'no token repeats')
  assert.equal(found.notGrown, 0)
})
