// An abort in the moments in which it is hard to obey, each made to last by a client that tells what it asks.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { type PostgresOptions, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { Member } from './backend.mjs'
import { watched } from './client.mjs'
import { Line } from './line.mjs'
import { Postgres } from './postgres.mjs'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

const reason = new Error('enough')
const locksBy = (connect: PostgresOptions['connect'], sessionTimeout = 20_000) =>
  postgresLocks({ connect, sessionTimeout })

/** Until nobody waits in the server's queue. */
async function isQueueEmpty(limit: number): Promise<void> {
  const waiting = `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`
  for (const end = Date.now() + limit; (await postgres.sql(waiting)).length > 0; await delay(5))
    assert.ok(Date.now() < end, 'somebody waits who was aborted')
}

test('while it connects', async () => {
  const abort = new AbortController()
  let isConnecting = () => {}
  const connecting = new Promise<void>((resolve) => {
    isConnecting = resolve
  })
  const locks = locksBy(async () => {
    isConnecting()
    await delay(300)
    return new pg.Client({ connectionString: postgres.url() })
  })
  const call = rejection(locks.acquireLock({ name: 'connecting', signal: abort.signal }))
  await connecting
  const start = performance.now()
  abort.abort(reason)
  assert.equal(await call, reason)
  assert.ok(performance.now() - start < 150)
  await delay(500)
  assert.equal((await locks.inspectLock('connecting')).state, 'free')
  await locks.close()
})

test('when the lock was won: nothing is written', async () => {
  const holder = postgresLocks({ connectionString: postgres.url() })
  const lock = await holder.acquireLock('won')
  const abort = new AbortController()
  const asked: string[] = []
  const locks = locksBy(() =>
    watched(postgres.url(), (text, isAnswered) => {
      asked.push(text)
      if (text.includes('SELECT pg_advisory_lock') && isAnswered) abort.abort(reason)
      return undefined
    }),
  )
  const call = rejection(locks.acquireLock({ name: 'won', timeout: 10_000, signal: abort.signal }))
  await delay(50)
  await lock.release()
  assert.equal(await call, reason)
  assert.ok(asked.some((text) => text.includes('SELECT pg_advisory_lock')))
  assert.ok(!asked.some((text) => text.includes('INSERT')))
  const next = await holder.acquireLock('won')
  assert.equal(next.takenOver, undefined)
  await next.release()
  await Promise.all([locks.close(), holder.close()])
})

test('while it is written down: the next run is told of the one that died, not of this one', async (t) => {
  const dead = new Member(t, 'postgres', postgres.url())
  const { holder } = await dead.asks('acquire', { name: 'written' })
  await dead.ends('SIGKILL')
  const abort = new AbortController()
  const locks = locksBy(() =>
    watched(postgres.url(), (text) => {
      if (text.includes('INSERT')) abort.abort(reason)
      return undefined
    }),
  )
  assert.equal(await rejection(locks.acquireLock({ name: 'written', signal: abort.signal })), reason)
  const next = await postgresLocks({ connectionString: postgres.url() }).acquireLock({
    name: 'written',
    timeout: 1000,
  })
  assert.deepEqual(next.takenOver?.holder, holder)
  await next.release()
  await locks.close()
})

test('while what is to be cancelled is on its way to the server: it is cancelled when it has arrived', async (t) => {
  const line = await Line.start(t, postgres.port)
  const holder = postgresLocks({ connectionString: postgres.url() })
  const lock = await holder.acquireLock('on its way')
  const abort = new AbortController()
  let waiting: pg.Client | undefined
  const locks = locksBy(() => {
    if (waiting) return new pg.Client({ connectionString: postgres.url() })
    waiting = watched(postgres.url('ledger', undefined, undefined, line.port), (text, isAnswered) => {
      if (!text.includes('SELECT pg_advisory_lock') || isAnswered) return undefined
      line.latency = 150
      setTimeout(() => abort.abort(reason), 20)
      return undefined
    })
    return waiting
  })
  const call = rejection(locks.acquireLock({ name: 'on its way', timeout: 60_000, signal: abort.signal }))
  assert.equal(await call, reason)
  // What is cancelled late would be the next statement of that session.
  await once(waiting as unknown as pg.Client, 'end', { signal: AbortSignal.timeout(1000) })
  await delay(2 * line.latency)
  await isQueueEmpty(500)
  await lock.release()
  await Promise.all([locks.close(), holder.close()])
})

test('while no second connection is to be had: the waiting one is given up', async () => {
  const holder = postgresLocks({ connectionString: postgres.url() })
  const lock = await holder.acquireLock('alone')
  const abort = new AbortController()
  const clients: pg.Client[] = []
  const locks = locksBy(() => {
    if (clients.length > 0) throw new Error('too many clients already')
    clients.push(new pg.Client({ connectionString: postgres.url() }))
    return clients[0] as pg.Client
  }, 4000)
  const call = rejection(locks.acquireLock({ name: 'alone', timeout: 60_000, signal: abort.signal }))
  await delay(100)
  const ended = once(clients[0] as pg.Client, 'end', { signal: AbortSignal.timeout(2000) })
  abort.abort(reason)
  assert.equal(await call, reason)
  await ended
  await isQueueEmpty(3000)
  assert.equal(lock.isHeld(), true)
  await lock.release()
  await Promise.all([locks.close(), holder.close()])
})
