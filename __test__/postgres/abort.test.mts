// An abort in the moments in which it is hard to obey, each made to last by a client that tells what it asks.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { type PostgresOptions, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { until } from '../support/time.mjs'
import { Member } from './backend.mjs'
import { watched } from './client.mjs'
import { Postgres } from './postgres.mjs'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

const reason = new Error('enough')
/** So long that no test sees the server find out by itself that a client is gone. */
const locksBy = (connect: PostgresOptions['connect']) => postgresLocks({ connect, sessionTimeout: 400_000 })

/** A check whether the connection of a client has ended. */
function endOf(client: pg.Client): () => boolean {
  let hasEnded = false
  client.once('end', () => {
    hasEnded = true
  })
  return () => hasEnded
}

test('while it connects', async () => {
  const abort = new AbortController()
  let isConnecting = () => {}
  const connecting = new Promise<void>((resolve) => {
    isConnecting = resolve
  })
  let connect = () => {}
  const mayConnect = new Promise<void>((resolve) => {
    connect = resolve
  })
  let hasEnded: (() => boolean) | undefined
  const locks = locksBy(async () => {
    isConnecting()
    await mayConnect
    const client = new pg.Client({ connectionString: postgres.url() })
    hasEnded ??= endOf(client)
    return client
  })
  let outcome: unknown
  void rejection(locks.acquireLock({ name: 'connecting', signal: abort.signal })).then((error) => {
    outcome = error
  })
  await connecting
  abort.abort(reason)
  await until(() => outcome, 'the call ends before it is connected')
  assert.equal(outcome, reason)
  connect()
  await until(() => hasEnded?.(), 'the connection that comes too late is closed')
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
      if (text.includes('PERFORM pg_advisory_lock') && isAnswered) abort.abort(reason)
      return undefined
    }),
  )
  const call = rejection(locks.acquireLock({ name: 'won', timeout: 10_000, signal: abort.signal }))
  await postgres.queues(1)
  await lock.release()
  assert.equal(await call, reason)
  assert.ok(asked.some((text) => text.includes('PERFORM pg_advisory_lock')))
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
    timeout: 10_000,
  })
  assert.deepEqual(next.takenOver?.holder, holder)
  await next.release()
  await locks.close()
})

test('amid a wait: the lock is granted to nobody, and no second connection is needed', async () => {
  const holder = postgresLocks({ connectionString: postgres.url() })
  const lock = await holder.acquireLock('amid')
  const abort = new AbortController()
  let connections = 0
  const locks = locksBy(() => {
    connections += 1
    return new pg.Client({ connectionString: postgres.url() })
  })
  const call = rejection(locks.acquireLock({ name: 'amid', timeout: 60_000, signal: abort.signal }))
  await postgres.queues(1)
  abort.abort(reason)
  assert.equal(await call, reason)
  await lock.release()
  const next = await holder.acquireLock({ name: 'amid', timeout: 10_000 })
  assert.deepEqual([connections, next.takenOver], [1, undefined])
  await next.release()
  await Promise.all([locks.close(), holder.close()])
})
