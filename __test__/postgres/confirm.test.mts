// Checks just before a step that cannot be undone: `confirm` and `lockInTransaction`.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { after, before, type TestContext, test } from 'node:test'
import pg from 'pg'
import { lockInTransaction, lockKey, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { later } from '../support/time.mjs'
import { watched } from './client.mjs'
import { Line } from './line.mjs'
import { pooled } from './pgbouncer.mjs'
import { Postgres } from './postgres.mjs'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

function locksOf(t: TestContext, connectionString = postgres.url()) {
  const locks = postgresLocks({ connectionString, sessionTimeout: 4000 })
  t.after(() => locks.close())
  return locks
}

test('confirm rejects after the server has ended the session', async (t) => {
  const lock = await locksOf(t).acquireLock('confirmed')
  await lock.confirm()
  const { confirm } = lock
  await postgres.sql(
    "SELECT pg_terminate_backend(backend) FROM reconcile_lock WHERE name = 'confirmed'",
    'ledger',
    'postgres',
  )
  assert.equal((await rejection(confirm())).code, 'E_LOCK_LOST')
  assert.equal(lock.signal.aborted, true)
  await rejection(lock.release())
})

test('a loss that confirm detects is published once', async (t) => {
  const connect = () =>
    watched(postgres.url(), (text) =>
      text.startsWith('SELECT EXISTS') ? { rows: [{ answer: 'false' }] } : undefined,
    )
  const locks = postgresLocks({ connect })
  t.after(() => locks.close())
  let losses = 0
  const count = () => {
    losses += 1
  }
  subscribe('reconcile-lock:lost', count)
  t.after(() => unsubscribe('reconcile-lock:lost', count))
  const lock = await locks.acquireLock('published')
  for (const { code } of await Promise.all([lock.confirm(), lock.confirm()].map(rejection)))
    assert.equal(code, 'E_LOCK_LOST')
  assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
  assert.equal(losses, 1)
})

test('confirm rejects without an answer and after a release', async (t) => {
  const line = await Line.start(t, postgres.port)
  const locks = locksOf(t, postgres.url('ledger', undefined, undefined, line.port))
  const lock = await locks.acquireLock('silent')
  line.isSilent = true
  assert.equal((await rejection(lock.confirm())).code, 'E_LOCK_LOST')
  line.isSilent = false
  await rejection(lock.release())
  const other = await locksOf(t).acquireLock('released')
  await other.release()
  assert.match((await rejection(other.confirm())).message, /was released before/)
})

test('confirm beside a release rejects without an answer', async (t) => {
  const line = await Line.start(t, postgres.port)
  const lock = await locksOf(t, postgres.url('ledger', undefined, undefined, line.port)).acquireLock('beside')
  line.isSilent = true
  for (const { code } of await Promise.all([lock.confirm(), lock.release()].map(rejection)))
    assert.equal(code, 'E_LOCK_LOST')
})

async function connected(t: TestContext, connectionString = postgres.url()): Promise<pg.Client> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  t.after(() => client.end())
  return client
}

test('lockInTransaction holds the lock until the transaction ends', async (t) => {
  const [one, two, locks] = [await connected(t), await connected(t), locksOf(t)]
  await one.query('BEGIN')
  await lockInTransaction(one, 'booked')
  await two.query('BEGIN')
  for (const call of [
    lockInTransaction(two, { name: 'booked', message: 'busy' }),
    locks.acquireLock('booked'),
  ]) {
    assert.equal((await rejection(call)).code, 'E_LOCK_CONTENTION')
  }
  assert.equal((await two.query('SELECT 1')).rowCount, 1, 'the transaction continues')
  const waiting = lockInTransaction(two, { name: 'booked', timeout: 10_000 })
  later(50, 'the other transaction waits', () => void one.query('COMMIT'))
  await waiting
  assert.equal((await locks.inspectLock('booked')).state, 'held')
  await two.query('ROLLBACK')
  await (await locks.acquireLock('booked')).release()
})

test('a savepoint and REPEATABLE READ limit lockInTransaction as documented', async (t) => {
  const [one, two] = [await connected(t), await connected(t)]
  await one.query('BEGIN; SAVEPOINT before')
  await lockInTransaction(one, 'limits')
  await one.query('ROLLBACK TO before')
  await two.query('CREATE TABLE limits (n integer)')
  await two.query('BEGIN')
  await lockInTransaction(two, 'limits')
  await one.query('ROLLBACK')
  const counts: unknown[] = []
  for (const level of ['REPEATABLE READ', 'READ COMMITTED']) {
    await one.query(`BEGIN ISOLATION LEVEL ${level}`)
    assert.equal((await rejection(lockInTransaction(one, 'limits'))).code, 'E_LOCK_CONTENTION')
    await two.query('INSERT INTO limits VALUES (1)')
    await two.query('COMMIT')
    await lockInTransaction(one, 'limits')
    counts.push((await one.query('SELECT FROM limits')).rowCount)
    await one.query('COMMIT')
    await two.query('BEGIN')
    await lockInTransaction(two, 'limits')
  }
  await two.query('ROLLBACK')
  assert.deepEqual(counts, [0, 2])
})

test('an abort ends the wait of lockInTransaction', async (t) => {
  const [client, lock] = [await connected(t), await locksOf(t).acquireLock('aborted')]
  await client.query('BEGIN')
  const abort = new AbortController()
  const options = { name: 'aborted', timeout: 60_000, signal: abort.signal }
  const waiting = rejection(lockInTransaction(client, options))
  later(50, 'the transaction waits', () => abort.abort())
  assert.equal((await waiting).name, 'AbortError')
  await client.query('ROLLBACK')
  await lock.release()
})

test('an abort during an attempt rejects lockInTransaction', async (t) => {
  const abort = new AbortController()
  const client = watched(postgres.url(), (text) => void (text.includes('xact_lock') && abort.abort()))
  await client.connect()
  t.after(() => client.end())
  await client.query('BEGIN')
  const call = lockInTransaction(client, { name: 'during', signal: abort.signal })
  assert.equal(await rejection(call), abort.signal.reason)
})

test('calls of lockInTransaction share a signal without a warning', async (t) => {
  const lock = await locksOf(t).acquireLock('shared signal')
  const warnings: unknown[] = []
  const note = ({ name }: Error) => warnings.push(name)
  process.on('warning', note)
  t.after(() => process.off('warning', note))
  const abort = new AbortController()
  const clients = await Promise.all(Array.from({ length: 11 }, () => connected(t)))
  await Promise.all(clients.map((client) => client.query('BEGIN')))
  const options = { name: 'shared signal', timeout: 60_000, signal: abort.signal }
  const calls = clients.map((client) => rejection(lockInTransaction(client, options)))
  later(50, 'the transactions wait', () => abort.abort())
  for (const { name } of await Promise.all(calls)) assert.equal(name, 'AbortError')
  assert.deepEqual(warnings, [])
  await lock.release()
})

test('lockInTransaction refuses a server whose locks do nothing', async (t) => {
  const client = await connected(t)
  await client.query('BEGIN')
  const key = lockKey('nothing')
  const without = {
    query: (text: string) =>
      client.query(text.replace(`pg_catalog.pg_try_advisory_xact_lock(${key})`, 'true')),
  }
  const error = await rejection(lockInTransaction(without as never, 'nothing'))
  assert.equal(error.code, 'E_LOCK_UNSUPPORTED')
  assert.match(String(error.path), /#nothing$/)
  assert.match(error.message, /PostgreSQL itself/)
})

test('lockInTransaction needs a transaction and a client', async (t) => {
  const client = await connected(t)
  const error = await rejection(lockInTransaction(client, 'none'))
  assert.equal(error.code, 'ERR_INVALID_STATE')
  const pool = new pg.Pool({ connectionString: postgres.url() })
  for (const wrong of [undefined, 'x', pool])
    assert.equal((await rejection(lockInTransaction(wrong as never, 'none'))).code, 'ERR_INVALID_ARG_TYPE')
  const unknown = lockInTransaction(client, { name: 'none', force: true } as never)
  assert.equal((await rejection(unknown)).code, 'ERR_INVALID_ARG_VALUE')
  assert.equal((await locksOf(t).inspectLock('none')).state, 'free')
})

test('lockInTransaction on a broken client rejects with a code', async (t) => {
  const closed = await connected(t)
  await closed.end()
  const error = await rejection(lockInTransaction(closed, 'broken'))
  assert.deepEqual([error.code, error.recoverable], ['08006', true])
  const ended = await connected(t)
  ended.on('error', () => {})
  await ended.query('BEGIN')
  await postgres.sql(
    `SELECT pg_terminate_backend(${(ended as unknown as { processID: number }).processID})`,
    'ledger',
    'postgres',
  )
  const { code, recoverable } = await rejection(lockInTransaction(ended, 'broken'))
  assert.match(String(code), /^(57P01|08006)$/)
  assert.equal(recoverable, true)
})

test('lockInTransaction works behind a pooler in transaction mode', async (t) => {
  const url = await pooled(t, postgres, { pool_mode: 'transaction' })
  const client = await connected(t, url)
  await client.query('BEGIN')
  await lockInTransaction(client, 'through')
  assert.equal((await rejection(locksOf(t).acquireLock('through'))).code, 'E_LOCK_CONTENTION')
  await client.query('COMMIT')
  await (await locksOf(t).acquireLock('through')).release()
})
