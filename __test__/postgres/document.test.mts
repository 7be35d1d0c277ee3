// The code in docs/postgres.md and docs/design/postgres.md: types are checked, SQL runs on a server.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { lockKey, postgresLocks, tableSql } from 'reconcile-lock/postgres'
import { blocksOf, complaints } from '../support/blocks.mjs'
import { rejection } from '../support/directory.mjs'
import { Postgres } from './postgres.mjs'

const DOCUMENT = 'docs/postgres.md'
let postgres: Postgres
let client: pg.Client
before(async () => {
  postgres = await Postgres.start()
  client = new pg.Client({ connectionString: postgres.url() })
  await client.connect()
})
after(async () => {
  await client.end()
  await postgres.stop()
})

test('the documented examples pass the type checker', (t) => {
  const declared = `declare const payments: object[]
declare function post(payment: object, token: bigint): Promise<void>\n`
  const blocks = blocksOf(DOCUMENT)
  assert.equal(blocks.length, 2)
  const code = blocks.map((block) => `${block}\n${declared}`)
  assert.equal(complaints(t, code), '')
})

test('the documented fence refuses the token of an earlier holder', async () => {
  const [table = '', fence = ''] = blocksOf(DOCUMENT, 'sql')
  await client.query(table)
  const locks = postgresLocks({ connectionString: postgres.url() })
  const old = await locks.acquireLock()
  await locks.breakLock({ force: true })
  const next = await locks.acquireLock()
  const passes = async (token: bigint, by = client) => (await by.query(fence, [token])).rowCount
  assert.equal(await passes(old.token), 1, 'no later holder has written yet')
  assert.equal(await passes(next.token), 1)
  assert.equal(await passes(next.token), 1, 'a holder writes more than once')
  assert.equal(await passes(old.token), 0)

  const other = new pg.Client({ connectionString: postgres.url() })
  await other.connect()
  await client.query('BEGIN')
  await passes(next.token)
  let isThrough = false
  const late = passes(next.token, other).then(() => {
    isThrough = true
  })
  await client.query('SELECT pg_sleep(0.1)')
  assert.equal(isThrough, false)
  await client.query('COMMIT')
  await late
  await other.end()
  await next.release()
  await rejection(old.release())
  await locks.close()
})

test('the documented SQL matches lockKey and the created table', async () => {
  const [key = ''] = blocksOf('docs/design/postgres.md', 'sql')
  const [row] = (await client.query(key)).rows
  assert.equal(String(Object.values(row)[0]), String(lockKey('reconcile')))
  const columns = async () =>
    (
      await client.query(`SELECT column_name, data_type, is_nullable FROM information_schema.columns
        WHERE table_name = 'reconcile_lock' ORDER BY ordinal_position`)
    ).rows
  const created = await columns()
  await client.query('DROP TABLE reconcile_lock')
  await client.query(tableSql())
  assert.deepEqual(await columns(), created)
  assert.ok(created.length > 6)
})

test('the documented query lists the current holders', async () => {
  const sql = blocksOf(DOCUMENT, 'sql').at(-1) ?? ''
  await using locks = postgresLocks({ connectionString: postgres.url() })
  await (await locks.acquireLock('before')).release()
  await using lock = await locks.acquireLock('now')
  assert.deepEqual(
    (await client.query(sql)).rows.map(({ name, token }) => [name, token]),
    [['now', String(lock.token)]],
  )
})
