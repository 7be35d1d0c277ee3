// Connections: how many are open, their limit, and those of a pool.
import assert from 'node:assert/strict'
import type { EventEmitter } from 'node:events'
import { createRequire } from 'node:module'
import type { Socket } from 'node:net'
import { after, before, type TestContext, test } from 'node:test'
import pg from 'pg'
import type { WaitStatus } from 'reconcile-lock'
import { type PostgresOptions, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { until } from '../support/time.mjs'
import { watched } from './client.mjs'
import { Postgres, USER } from './postgres.mjs'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

function locksOf(t: TestContext, options: PostgresOptions = { connectionString: postgres.url() }) {
  const locks = postgresLocks(options)
  t.after(() => locks.close())
  return locks
}

/** How many sessions have this application name. */
async function sessions(application = 'reconcile-lock'): Promise<number> {
  const text = `SELECT 1 FROM pg_stat_activity WHERE application_name = '${application}'`
  return (await postgres.sql(text, 'ledger', 'postgres')).length
}

test('a thousand waiting calls share two sessions in arrival order', async (t) => {
  const locks = locksOf(t)
  const lock = await locks.acquireLock('many')
  const order: number[] = []
  const waiting = Array.from({ length: 1000 }, async (_, index) => {
    const mine = await locks.acquireLock({ name: 'many', timeout: 60_000 })
    order.push(index)
    await mine.release()
  })
  await postgres.queues(1)
  assert.equal(await sessions(), 2)
  await lock.release()
  await Promise.all(waiting)
  assert.deepEqual(
    order,
    order.map((_, index) => index),
  )
  assert.ok((await sessions()) <= 3)
})

test('calls beyond maxConnections wait until their timeout', async (t) => {
  const locks = locksOf(t, { connectionString: postgres.url(), maxConnections: 2 })
  const [one, two] = await Promise.all([locks.acquireLock('one'), locks.acquireLock('two')])
  for (const timeout of [0, 100]) {
    const start = performance.now()
    const { code, recoverable, message } = await rejection(locks.acquireLock({ name: 'three', timeout }))
    assert.deepEqual([code, recoverable], ['E_LOCK_CONNECTIONS', true])
    assert.match(message, /All 2 connections are in use .* raise "maxConnections"/)
    assert.ok(performance.now() - start >= timeout - 1)
  }
  const waiting = locks.acquireLock({ name: 'three', timeout: 20_000 })
  await one.release()
  const three = await waiting
  await Promise.all([two.release(), three.release()])
  // The calls that timed out have left the queue.
  const again = await Promise.all(['one', 'two'].map((name) => locks.acquireLock(name)))
  await Promise.all(again.map((lock) => lock.release()))
})

test('withLock refuses more names than maxConnections', async (t) => {
  const locks = locksOf(t, { connectionString: postgres.url(), maxConnections: 2 })
  const { code, message } = await rejection(locks.withLock(() => {}, ['one', 'two', 'three']))
  assert.equal(code, 'ERR_INVALID_ARG_VALUE')
  assert.match(message, /has 3 names, .* raise "maxConnections", which is 2/)
  await locks.withLock(() => {}, ['one', 'two'])
})

test('a call that is late before the line is refused', async (t) => {
  const locks = locksOf(t, { connectionString: postgres.url(), maxConnections: 1 })
  const abort = new AbortController()
  const { signal } = abort
  const first = locks.acquireLock('late')
  let code: unknown
  void rejection(locks.acquireLock('late')).then((error) => {
    code = error.code
  })
  const endless = rejection(locks.acquireLock({ name: 'late', timeout: Number.POSITIVE_INFINITY, signal }))
  const lock = await first
  await until(() => code, 'the second call is refused')
  assert.equal(code, 'E_LOCK_CONNECTIONS')
  abort.abort()
  await endless
  await lock.release()
})

test('calls in succession share one connection', async (t) => {
  const holder = await locksOf(t).acquireLock('held')
  const pool = new pg.Pool({ connectionString: postgres.url(), max: 1 })
  t.after(() => pool.end())
  for (const options of [{ connectionString: postgres.url() }, { pool }]) {
    const locks = locksOf(t, { ...options, maxConnections: 1 })
    const round = async () => {
      await locks.inspectLock('free')
      const lock = await locks.acquireLock('held').catch(() => locks.acquireLock('free'))
      await lock.release()
      await (await locks.acquireLock('free')).release()
      return true
    }
    // On a busy machine a connection may return late.
    await until(() => round().catch(({ code }) => assert.equal(code, 'E_LOCK_CONNECTIONS')), 'a round')
  }
  await holder.release()
})

test('a call leaves the line after an idle session ended', async (t) => {
  let tries = 0
  const connect = () => {
    const client = watched(postgres.url(), (text, isAnswered) => {
      if (!text.includes('pg_try_advisory_lock') || isAnswered) return undefined
      tries += 1
      if (tries === 2) (client as unknown as Insides).connection.stream.destroy()
      return undefined
    })
    return client
  }
  const locks = locksOf(t, { connect, maxConnections: 1 })
  await (await locks.acquireLock('rested')).release()
  const abort = new AbortController()
  const { signal } = abort
  const endless = rejection(locks.acquireLock({ name: 'one', timeout: Number.POSITIVE_INFINITY, signal }))
  const lock = await locks.acquireLock({ name: 'two', timeout: 20_000 })
  let code: unknown
  void rejection(locks.acquireLock({ name: 'one', timeout: 100 })).then((error) => {
    code = error.code
  })
  await until(() => code, 'the call ends at its timeout')
  assert.equal(code, 'E_LOCK_CONNECTIONS')
  abort.abort()
  await endless
  await lock.release()
})

test('a session that ends while it opens frees its place', async (t) => {
  let isFirst = true
  const connect = () => {
    const client = watched(postgres.url(), (text, isAnswered) => {
      if (!isFirst || !isAnswered || !text.includes('json_each_text')) return undefined
      isFirst = false
      client.emit('error', Object.assign(new Error('terminating connection'), { code: '57P01' }))
      return undefined
    })
    return client
  }
  const locks = locksOf(t, { connect, maxConnections: 1 })
  assert.equal((await rejection(locks.acquireLock('opening'))).code, '57P01')
  await (await locks.acquireLock('opening')).release()
})

for (const [code, identity] of [
  ['E_LOCK_STANDBY', { isStandby: true }],
  ['E_LOCK_POOLER', { backend: 1, path: '' }],
] as const)
  test(`a connection that is refused by ${code} is closed`, async (t) => {
    const connect = () =>
      watched(`${postgres.url()}?application_name=${code}`, (text) =>
        text.includes("'isStandby'") ? { rows: [{ answer: JSON.stringify(identity) }] } : undefined,
      )
    assert.equal((await rejection(locksOf(t, { connect }).acquireLock('refused'))).code, code)
    await until(async () => (await sessions(code)) === 0, 'no connection is open')
  })

test('successive locks of a session share one heartbeat', async (t) => {
  let beats = 0
  const connect = () =>
    watched(postgres.url(), (text, isAnswered) => {
      if (text.includes("'isStandby'") && !isAnswered) beats += 1
      return undefined
    })
  const locks = locksOf(t, { connect, sessionTimeout: 4000 })
  for (let round = 0; round < 5; round += 1) await (await locks.acquireLock('beats')).release()
  const start = performance.now()
  const lock = await locks.acquireLock('beats')
  assert.equal(beats, 1, 'when the session opened')
  await until(() => beats === 3, 'two heartbeats')
  // The period is a quarter of the session timeout.
  const took = performance.now() - start
  assert.ok(took > 1900, `${took} ms`)
  await lock.release()
})

test('onWait reports the holder without a second connection', async (t) => {
  await postgres.sql(`ALTER ROLE ${USER} CONNECTION LIMIT 2`, 'ledger', 'postgres')
  t.after(() => postgres.sql(`ALTER ROLE ${USER} CONNECTION LIMIT -1`, 'ledger', 'postgres'))
  const [locks, others] = [locksOf(t), locksOf(t)]
  const lock = await locks.acquireLock('scarce')
  const statuses: WaitStatus[] = []
  const onWait = (status: WaitStatus) => void statuses.push(status)
  const waiting = others.acquireLock({ name: 'scarce', timeout: 30_000, onWait })
  await until(() => statuses.length >= 3, 'onWait is called three times')
  assert.ok(statuses.every(({ holder }) => holder?.pid === process.pid))
  const error = await rejection(locksOf(t).acquireLock('other'))
  assert.deepEqual([error.code, error.recoverable], ['53300', true])
  await lock.release()
  await (await waiting).release()
})

test('query_timeout of the client does not end a wait', async (t) => {
  const holder = await locksOf(t).acquireLock('slow')
  const waits = [
    { connectionString: `${postgres.url()}?query_timeout=50` },
    { connect: () => new pg.Client({ connectionString: postgres.url(), query_timeout: 50 }) },
  ].map((options) => locksOf(t, options).acquireLock({ name: 'slow', timeout: 600 }))
  for (const { code } of await Promise.all(waits.map(rejection))) assert.equal(code, 'E_LOCK_CONTENTION')
  await holder.release()
})

test('pg 8.11 acquires, waits and hands over', async (t) => {
  const oldest: typeof pg = createRequire(import.meta.url)('pg-8.11')
  const config = { connectionString: postgres.url() }
  const pool = new oldest.Pool(config)
  t.after(() => pool.end())
  for (const options of [{ pool }, { connect: () => new oldest.Client(config) }]) {
    const lock = await locksOf(t, options).acquireLock('oldest')
    let waits = 0
    const next = locksOf(t, options).acquireLock({ name: 'oldest', timeout: 30_000, onWait: () => waits++ })
    await until(() => waits > 0, 'the call waits')
    await lock.confirm()
    await lock.release()
    const second = await next
    assert.ok(second.token > lock.token)
    await second.release()
  }
})

/** A client, and what a lock changes in it. */
async function stateOf(client: pg.PoolClient) {
  const { connectionParameters, processID } = client as unknown as Insides
  const { rows } = await client.query(`SELECT name, setting FROM pg_settings
    WHERE category <> 'Customized Options' ORDER BY name`)
  const listeners = ['error', 'end', 'notification'].map((name) => client.listenerCount(name))
  return { processID, listeners, timeout: connectionParameters.query_timeout, settings: rows }
}

interface Insides {
  connection: EventEmitter & { stream: Socket }
  connectionParameters: { query_timeout: number }
  processID: number
}

test('clients return to their pool with their previous settings', async (t) => {
  const config = { connectionString: postgres.url(), application_name: 'pool', max: 2, query_timeout: 5000 }
  const pool = new pg.Pool(config)
  t.after(() => pool.end())
  const errors: unknown[] = []
  pool.on('connect', (client) => {
    const { connection } = client as unknown as Insides
    connection.on('errorMessage', ({ message }) => errors.push(message))
  })
  /** The state of both clients, by the process of the server. */
  const state = async () => {
    const clients = await Promise.all([pool.connect(), pool.connect()])
    const states = await Promise.all(clients.map(stateOf))
    for (const client of clients) client.release()
    return states.sort((a, b) => a.processID - b.processID)
  }
  const clients = await Promise.all([pool.connect(), pool.connect()])
  for (const [index, client] of clients.entries()) {
    await client.query(`SET search_path TO public; SET statement_timeout TO '${index + 7}s'`)
    client.release()
  }
  const before = await state()
  const locks = locksOf(t, { pool })
  const lock = await locks.acquireLock('pooled')
  assert.equal(lock.holder.application, 'pool')
  const waiting = locks.acquireLock({ name: 'pooled', timeout: 10_000 })
  await postgres.queues(1)
  assert.deepEqual([pool.totalCount, pool.idleCount], [2, 0])
  await lock.release()
  await (await waiting).release()
  await until(() => pool.idleCount === pool.totalCount, 'the clients are back in the pool')
  assert.equal(pool.totalCount, 2)
  assert.deepEqual(await state(), before)
  assert.deepEqual(errors, [])
  const { rows } = await pool.query("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'")
  assert.equal(rows.length, 0)
})

test('a pooled client whose session ends is not reused', async (t) => {
  const pool = new pg.Pool({ connectionString: postgres.url(), max: 1 })
  pool.on('error', () => {})
  t.after(() => pool.end())
  const locks = locksOf(t, { pool })
  const lock = await locks.acquireLock('lent')
  await postgres.sql(
    "SELECT pg_terminate_backend(backend) FROM reconcile_lock WHERE name = 'lent'",
    'ledger',
    'postgres',
  )
  await until(() => lock.signal.aborted, 'the lock is lost')
  assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
  await (await locks.acquireLock('lent')).release()
})

test('an exhausted pool times out after connectTimeout', async (t) => {
  const pool = new pg.Pool({ connectionString: postgres.url(), max: 1 })
  t.after(() => pool.end())
  const client = await pool.connect()
  const locks = locksOf(t, { pool, connectTimeout: 100 })
  const error = await rejection(locks.acquireLock('none'))
  assert.deepEqual([error.code, error.recoverable], ['ETIMEDOUT', true])
  client.release()
  await (await locks.acquireLock('none')).release()
})
