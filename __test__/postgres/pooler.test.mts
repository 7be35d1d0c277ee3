// A real PgBouncer in front of the server.
import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { after, before, type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import pg from 'pg'
import { LockError, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { DEADLINE, until } from '../support/time.mjs'
import { BackendProcess } from './backend.mjs'
import { watched } from './client.mjs'
import { pooled } from './pgbouncer.mjs'
import { Postgres } from './postgres.mjs'
import { quickest } from './quickest.mjs'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

function locksOf(t: TestContext, connectionString: string, options: object = {}) {
  const locks = postgresLocks({ connectionString, ...options })
  t.after(() => locks.close())
  return locks
}

async function isRefused(t: TestContext, url: string): Promise<void> {
  const locks = locksOf(t, url)
  for (const call of [() => locks.acquireLock(), () => locks.inspectLock(), () => locks.breakLock()]) {
    const error = await rejection(call())
    assert.ok(error instanceof LockError, inspect(error))
    assert.deepEqual([error.code, error.recoverable], ['E_LOCK_POOLER', false])
    assert.match(error.message, /^The pooler cannot keep locks: .*in session mode/)
    assert.doesNotMatch(error.message, /word/, 'no password')
  }
  const [{ count } = { count: undefined }] = await postgres.sql<{ count: string }>(
    `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'`,
  )
  assert.equal(count, '0', 'nothing is left locked')
}

for (const mode of ['transaction', 'statement'])
  test(`${mode} pooling is refused`, async (t) => {
    const url = await pooled(t, postgres, { pool_mode: mode })
    const took = await quickest(1500, async () => {
      const start = performance.now()
      await isRefused(t, url)
      return performance.now() - start
    })
    assert.ok(took < 1500, `refused after ${took} ms`)
  })

test('transaction pooling with one connection is refused', async (t) => {
  await isRefused(t, await pooled(t, postgres, { pool_mode: 'transaction', default_pool_size: 1 }))
})

test('transaction pooling is refused if the process id repeats', async (t) => {
  const settings = { pool_mode: 'transaction', server_round_robin: 1, default_pool_size: 3, min_pool_size: 3 }
  const url = await pooled(t, postgres, settings)
  // Three idle sessions in turn: after as many statements of others a connection gets its own again.
  const others = await Promise.all([1, 2, 3].map(() => connected(t, url)))
  await Promise.all(others.map((client) => client.query('BEGIN')))
  await Promise.all(others.map((client) => client.query('COMMIT')))
  for (let round = 0; round < 4; round += 1) {
    await isRefused(t, url)
    await others[0]?.query('SELECT 1')
  }
})

test('transaction pooling is refused under load', async (t) => {
  const url = await pooled(t, postgres, { pool_mode: 'transaction', default_pool_size: 5 })
  let isOver = false
  const traffic = Array.from({ length: 8 }, async () => {
    const client = await connected(t, url)
    while (!isOver) await client.query('SELECT pg_sleep(0.002)')
  })
  for (let round = 0; round < 15; round += 1) await isRefused(t, url)
  isOver = true
  await Promise.all(traffic)
})

async function connected(t: TestContext, connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString })
  client.on('error', () => {})
  await client.connect()
  t.after(() => client.end().catch(() => {}))
  return client
}

test('session pooling supports exclusion, waiting, abort and take-over', async (t) => {
  const url = await pooled(t, postgres, { pool_mode: 'session' })
  const [locks, direct] = [locksOf(t, url), locksOf(t, postgres.url())]
  const lock = await locks.acquireLock()
  assert.equal((await rejection(direct.acquireLock())).code, 'E_LOCK_CONTENTION')
  const abort = new AbortController()
  const waiting = rejection(locks.acquireLock({ timeout: 60_000, signal: abort.signal }))
  await postgres.queues(1)
  abort.abort()
  assert.equal((await waiting).name, 'AbortError')
  const next = direct.acquireLock({ timeout: DEADLINE })
  await lock.release()
  await (await next).release()
  const peer = new BackendProcess(t, 'postgres', url)
  assert.equal((await peer.asks('acquire', { name: 'reconcile' })).ok, true)
  await peer.ends('SIGKILL')
  // The pooler detects the end of the process.
  const taken = await direct.acquireLock({ timeout: DEADLINE })
  assert.equal(taken.takenOver?.holder.pid, peer.child.pid)
  await taken.release()
})

test('session pooling that unlocks no keys is refused', async (t) => {
  const url = await pooled(t, postgres, { pool_mode: 'session', server_reset_query: '' })
  const locks = locksOf(t, url)
  const { code, message } = await rejection(locks.acquireLock('left'))
  assert.equal(code, 'E_LOCK_POOLER')
  assert.match(
    message,
    /^The pooler cannot keep locks: it does not unlock the keys of a client that has left/,
  )
})

test('a blocked event loop does not refuse a pooler', async (t) => {
  const keys: unknown[] = []
  const connect = () => {
    const client = watched(postgres.url(), (text, isAnswered, [key]) => {
      if (isAnswered || !text.includes('pg_try_advisory_lock')) return undefined
      // The first query of the check for the key that the other connection has locked.
      const isCheck = keys.length === 1 && keys[0] === key
      keys.push(key)
      if (!isCheck) return undefined
      const end = performance.now() + 2100
      while (performance.now() < end);
      return { rows: [{ answer: 'false' }] }
    })
    // A pooler reports its own process ids.
    client.once('connect', () => Object.assign(client, { processID: 0 }))
    return client
  }
  const locks = postgresLocks({ connect })
  t.after(() => locks.close())
  await (await locks.acquireLock('blocked')).release()
  assert.equal(keys[1], keys[0], 'the check was blocked')
})

test("a client of a pg.Pool returns without the check's listener", async (t) => {
  const pool = new pg.Pool({ connectionString: await pooled(t, postgres, { pool_mode: 'session' }), max: 2 })
  t.after(() => pool.end())
  const clients: pg.PoolClient[] = []
  pool.on('connect', (client) => clients.push(client))
  for (const name of ['one', 'two']) await (await postgresLocks({ pool }).acquireLock(name)).release()
  await until(() => pool.idleCount === 1, 'the other client is back in the pool')
  assert.ok(clients.length > 1)
  for (const client of clients) assert.equal(client.listenerCount('notification'), 0)
  const advisory = "SELECT FROM pg_locks WHERE locktype = 'advisory'"
  // The server ends the sessions of earlier clients a little later.
  await until(async () => (await postgres.sql(advisory)).length === 0, 'nothing is left locked')
})

test('a full session pool rejects with its own error', async (t) => {
  const url = await pooled(t, postgres, { pool_mode: 'session', default_pool_size: 1, query_wait_timeout: 1 })
  const error = await rejection(locksOf(t, url).acquireLock())
  assert.match(String(error.code), /^(08P01|ETIMEDOUT)$/)
  assert.equal(error.recoverable, true)
  assert.match(error.message, /The connection that checks the pooler cannot be opened/)
  const two = await pooled(t, postgres, { pool_mode: 'session', default_pool_size: 2 })
  const locks = locksOf(t, two)
  const held = await Promise.all([locks.acquireLock('one'), locks.acquireLock('two')])
  for (const lock of held) await lock.release()
})

test('a check of the pooler that failed is repeated', async (t) => {
  let connections = 0
  const failure = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
  const connect = () => {
    connections += 1
    if (connections === 2) throw failure
    const client = new pg.Client({ connectionString: postgres.url() })
    // A pooler reports its own process ids.
    client.once('connect', () => Object.assign(client, { processID: 0 }))
    return client
  }
  const locks = postgresLocks({ connect })
  t.after(() => locks.close())
  assert.equal(await rejection(locks.acquireLock('repeated')), failure)
  await (await locks.acquireLock('repeated')).release()
})

test('a missing notification reveals a pooler without process ids', async (t) => {
  for (const dropsListen of [false, true]) {
    const connect = () => {
      const client = watched(postgres.url(), (text) => {
        return dropsListen && text.startsWith('LISTEN') ? { rows: [] } : undefined
      })
      // A pooler reports its own process ids.
      client.once('connect', () => Object.assign(client, { processID: 0 }))
      return client
    }
    const locks = postgresLocks({ connect })
    t.after(() => locks.close())
    if (dropsListen) assert.equal((await rejection(locks.acquireLock('deaf'))).code, 'E_LOCK_POOLER')
    else await (await locks.acquireLock('deaf')).release()
  }
})

test('a connection that changes its session loses the lock', async (t) => {
  let isOther = false
  const connect = () =>
    watched(postgres.url(), (text) => {
      const isAsked = isOther && text.startsWith('SELECT pg_catalog.json_build_object')
      return isAsked ? { rows: [{ answer: '{"backend":1}' }] } : undefined
    })
  const locks = postgresLocks({ connect, sessionTimeout: 4000 })
  t.after(() => locks.close())
  const lock = await locks.acquireLock('changed')
  isOther = true
  await until(() => lock.signal.aborted, 'the lock is lost')
  assert.match(lock.signal.reason.message, /a pooler has given the connection another session/)
  isOther = false
  assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
  await (await locks.acquireLock('changed')).release()
})

test('a lock behind session pooling is lost with its session', async (t) => {
  const url = await pooled(t, postgres, { pool_mode: 'session', server_lifetime: 3600 })
  const locks = locksOf(t, url)
  const lock = await locks.acquireLock('later')
  await postgres.sql(`SELECT pg_terminate_backend(backend) FROM reconcile_lock WHERE name = 'later'`)
  await until(() => lock.signal.aborted, 'the lock is lost')
  assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
})

test('a late release spares the next client of its session', async (t) => {
  const url = await pooled(t, postgres, { pool_mode: 'session' })
  const clients: pg.Client[] = []
  const connect = () => {
    const client = new pg.Client({ connectionString: url })
    clients.push(client)
    return client
  }
  const [locks, others] = [postgresLocks({ connect }), locksOf(t, url)]
  t.after(() => locks.close())
  const lock = await locks.acquireLock('left')
  const [{ backend } = { backend: 0 }] = await postgres.sql<{ backend: number }>(
    "SELECT backend FROM reconcile_lock WHERE name = 'left'",
  )
  ;(clients[0] as unknown as { connection: { stream: Socket } }).connection.stream.destroy()
  await until(() => lock.signal.aborted, 'the lock is lost')
  // The pooler lends the sessions that are free before it opens one.
  const next = await others.acquireLock({ name: 'left', timeout: DEADLINE })
  const more = await others.acquireLock('more')
  const rows = await postgres.sql('SELECT backend FROM reconcile_lock WHERE released_at IS NULL')
  assert.ok(
    rows.some((row) => row.backend === backend),
    'the pooler has lent the session again',
  )
  assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
  for (const held of [next, more]) {
    await held.confirm()
    await held.release()
  }
})
