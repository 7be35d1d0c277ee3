import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { WaitStatus } from 'reconcile-lock'
import { type PostgresLocks, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { DEADLINE, sleep, until } from '../support/time.mjs'
import { Member } from './backend.mjs'
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

test('a holder of this machine that has ended is waited out, although the server has not heard of that', async (t) => {
  const line = await Line.start(t, postgres.port)
  const member = new Member(t, 'postgres', postgres.url('ledger', undefined, undefined, line.port))
  assert.equal((await member.asks('acquire', { name: 'gone' })).ok, true)
  line.latency = 400
  await member.ends('SIGKILL')
  const lock = await locks.acquireLock('gone')
  assert.equal(lock.takenOver?.holder.pid, member.child.pid)
  await lock.release()
})

test('the calls of a process are served in their order, by one session', async () => {
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

test('a timeout longer than a timer can be is one', async () => {
  const lock = await locks.acquireLock('long')
  const waiting = [2 ** 31, 2 ** 53, Number.POSITIVE_INFINITY].map((timeout) =>
    locks.acquireLock({ name: 'long', timeout }).then((mine) => mine.release()),
  )
  await postgres.queues(1)
  await lock.release()
  await Promise.all(waiting)
})

test('who waits holds up no CREATE INDEX CONCURRENTLY for long', async () => {
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

test('onWait names the holder of the moment', async (t) => {
  const [one, two] = [new Member(t, 'postgres', postgres.url()), new Member(t, 'postgres', postgres.url())]
  let named: (number | undefined)[] = []
  // Which of two processes is served first is chance: ours waits on in every second round.
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

test("a server that is stopped holds up no deadline, and a lock that it grants late is nobody's", async () => {
  const holder = await locks.acquireLock('late')
  const waiting = rejection(locks.acquireLock({ name: 'late', timeout: 1000 }))
  const [waiter] = await postgres.queues(1)
  assert.ok(waiter)
  process.kill(waiter, 'SIGSTOP')
  try {
    await holder.release()
    assert.equal((await waiting).code, 'E_LOCK_CONTENTION')
    await sleep(300, 'the time of its statement passes while the session is stopped')
  } finally {
    process.kill(waiter, 'SIGCONT')
  }
  const other = postgresLocks({ connectionString: postgres.url() })
  const next = await other.acquireLock({ name: 'late', timeout: 1000 })
  await next.release()
  await other.close()
})
