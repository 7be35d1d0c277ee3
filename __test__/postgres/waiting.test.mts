import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { WaitStatus } from 'reconcile-lock'
import { type PostgresLocks, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { DEADLINE, sleep, until } from '../support/time.mjs'
import { BackendProcess } from './backend.mjs'
import { Line } from './line.mjs'
import { Postgres } from './postgres.mjs'
import { quickest } from './quickest.mjs'

let postgres: Postgres
let locks: PostgresLocks
before(async () => {
  postgres = await Postgres.start()
  locks = postgresLocks({ connectionString: postgres.url() })
})
after(async () => {
  await locks.close()
  await postgres.stop()
})

test('acquireLock waits until the server ends a dead holder', async (t) => {
  const line = await Line.start(t, postgres.port)
  const peer = new BackendProcess(t, 'postgres', postgres.url('ledger', undefined, undefined, line.port))
  assert.equal((await peer.asks('acquire', { name: 'gone' })).ok, true)
  line.latency = 400
  await peer.ends('SIGKILL')
  const lock = await locks.acquireLock('gone')
  assert.equal(lock.takenOver?.holder.pid, peer.child.pid)
  await lock.release()
})

test('calls of one process share a session in arrival order', async () => {
  const lock = await locks.acquireLock('order')
  const order: number[] = []
  const waiting = Array.from({ length: 20 }, (_, index) =>
    locks.acquireLock({ name: 'order', timeout: 10_000 }).then((won) => {
      order.push(index)
      return won.release()
    }),
  )
  await postgres.queues(1)
  await lock.release()
  await Promise.all(waiting)
  assert.deepEqual(
    order,
    order.map((_, index) => index),
  )
})

test('a timeout may exceed the maximum of a timer', async () => {
  const lock = await locks.acquireLock('long')
  const waiting = [2 ** 31, 2 ** 53, Number.POSITIVE_INFINITY].map((timeout) =>
    locks.acquireLock({ name: 'long', timeout }).then((mine) => mine.release()),
  )
  await postgres.queues(1)
  await lock.release()
  await Promise.all(waiting)
})

test('a waiter delays CREATE INDEX CONCURRENTLY by under 1.5 s', async () => {
  const lock = await locks.acquireLock('index')
  const abort = new AbortController()
  const waiting = rejection(locks.acquireLock({ name: 'index', timeout: 60_000, signal: abort.signal }))
  await postgres.queues(1)
  await postgres.sql('CREATE TABLE IF NOT EXISTS indexed (n integer)')
  const took = await quickest(1500, async () => {
    const start = performance.now()
    await postgres.sql('CREATE INDEX CONCURRENTLY ON indexed (n)')
    return performance.now() - start
  })
  assert.ok(took < 1500, `${took} ms`)
  abort.abort()
  assert.equal((await waiting).name, 'AbortError')
  await lock.release()
})

test('onWait names the current holder', async (t) => {
  const [one, two] = [
    new BackendProcess(t, 'postgres', postgres.url()),
    new BackendProcess(t, 'postgres', postgres.url()),
  ]
  let named: (number | undefined)[] = []
  // Chance decides which process is served first: this one keeps waiting in about half of the rounds.
  while (named.length < 2) {
    named = []
    const onWait = ({ holder }: WaitStatus) => {
      if (holder && !named.includes(holder.pid)) named.push(holder.pid)
    }
    const name = 'moment'
    await one.asks('acquire', { name })
    const theirs = two.asks('acquire', { name, timeout: DEADLINE })
    const abort = new AbortController()
    const call = locks.acquireLock({ name, timeout: DEADLINE, signal: abort.signal, onWait })
    const ours = call.then(
      (lock) => lock.release(),
      (error) => assert.equal(error.name, 'AbortError'),
    )
    await until(() => named.length === 1, 'the first holder is named')
    await one.asks('release', { name })
    await Promise.race([theirs, ours])
    let isOver = false
    void ours.then(() => {
      isOver = true
    })
    await until(() => isOver || named.length === 2, 'the second holder is named, or is this process')
    abort.abort()
    await ours
    assert.equal((await theirs).ok, true)
    await two.asks('release', { name })
  }
  assert.deepEqual(named, [one.child.pid, two.child.pid])
})

test('a stopped server delays no deadline, its late grant ends', async () => {
  const holder = await locks.acquireLock('late')
  const waiting = rejection(locks.acquireLock({ name: 'late', timeout: 1000 }))
  const [waiter] = await postgres.queues(1)
  assert.ok(waiter)
  process.kill(waiter, 'SIGSTOP')
  try {
    await holder.release()
    assert.equal((await waiting).code, 'E_LOCK_CONTENTION')
    await sleep(300, 'the statement timeout passes while the session is stopped')
  } finally {
    process.kill(waiter, 'SIGCONT')
  }
  const other = postgresLocks({ connectionString: postgres.url() })
  const next = await other.acquireLock({ name: 'late', timeout: 1000 })
  await next.release()
  await other.close()
})
