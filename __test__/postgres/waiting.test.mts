import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { after, before, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { type PostgresLocks, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { sleep, until } from '../support/time.mjs'
import { Member } from './backend.mjs'
import { Line } from './line.mjs'
import { Postgres } from './postgres.mjs'

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

test('those who wait are served in the order in which they came', async () => {
  const lock = await locks.acquireLock('order')
  const order: number[] = []
  const waiting: Promise<unknown>[] = []
  for (const index of [0, 1, 2, 3, 4, 5]) {
    const mine = locks.acquireLock({ name: 'order', timeout: 10_000 })
    waiting.push(
      mine.then((won) => {
        order.push(index)
        return won.release()
      }),
    )
    await postgres.queues(index + 1)
  }
  await lock.release()
  await Promise.all(waiting)
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5])
})

test('a timeout longer than a timer can be is one', async () => {
  const lock = await locks.acquireLock('long')
  const waiting = [2 ** 31, 2 ** 53, Number.POSITIVE_INFINITY].map((timeout) =>
    locks.acquireLock({ name: 'long', timeout }).then((mine) => mine.release()),
  )
  await postgres.queues(waiting.length)
  await lock.release()
  await Promise.all(waiting)
})

test('a wait asks the server nothing, and costs it nothing but a place', async () => {
  const lock = await locks.acquireLock('quiet')
  const abort = new AbortController()
  const waiting = rejection(locks.acquireLock({ name: 'quiet', timeout: 60_000, signal: abort.signal }))
  await postgres.queues(1)
  const asked = `SELECT query_start FROM pg_stat_activity WHERE wait_event = 'advisory'`
  const first = await postgres.sql(asked, 'ledger', 'postgres')
  await sleep(500, 'a wait asks nothing meanwhile')
  assert.deepEqual(await postgres.sql(asked, 'ledger', 'postgres'), first)
  assert.equal(first.length, 1)
  abort.abort()
  assert.equal((await waiting).name, 'AbortError')
  await lock.release()
})

test('onWait names the holder of the moment', async (t) => {
  const [one, two] = [new Member(t, 'postgres', postgres.url()), new Member(t, 'postgres', postgres.url())]
  await one.asks('acquire', { name: 'moment' })
  const second = two.asks('acquire', { name: 'moment', timeout: 10_000 })
  await postgres.queues(1)
  const told = new Set<number | undefined>()
  const onWait = ({ holder }: { holder?: { pid: number } }) => void told.add(holder?.pid)
  const abort = new AbortController()
  const call = rejection(locks.acquireLock({ name: 'moment', timeout: 60_000, signal: abort.signal, onWait }))
  await until(() => told.size === 1, 'it is told of the first holder')
  await one.asks('release', { name: 'moment' })
  await second
  await until(() => told.size === 2, 'it is told of the second holder')
  abort.abort()
  await call
  assert.deepEqual([...told], [one.child.pid, two.child.pid])
})

test('who is granted the lock in the moment in which the time is over has it, and no session at rest does', async () => {
  const holder = await locks.acquireLock('late')
  const waiting = locks.acquireLock({ name: 'late', timeout: 300 })
  await postgres.queues(1)
  const [waiter] = await postgres.sql<{ pid: number }>(
    "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory'",
    'ledger',
    'postgres',
  )
  assert.ok(waiter)
  process.kill(waiter.pid, 'SIGSTOP')
  try {
    await holder.release()
    await sleep(400, 'its time passes while its session is stopped')
  } finally {
    process.kill(waiter.pid, 'SIGCONT')
  }
  const lock = await waiting
  await lock.release()
  const other = postgresLocks({ connectionString: postgres.url() })
  const next = await other.acquireLock('late')
  await next.release()
  await other.close()
})

type Told = <T>(waiting: Promise<T>, tell: () => Promise<void>) => Promise<T>
const require = createRequire(import.meta.url)
const { told }: { told: Told } = require('../../../postgres/dist/tell.js')
const clock: { setTimeout: typeof setTimeout } = require('../../../postgres/dist/clock.js')

test('nobody is told of a wait that has ended meanwhile', async (t) => {
  const { setTimeout } = clock
  t.after(() => {
    clock.setTimeout = setTimeout
  })
  const timers: unknown[] = []
  clock.setTimeout = ((...args: unknown[]) => {
    timers.push(args[1])
    return setTimeout(...(args as Parameters<typeof setTimeout>))
  }) as typeof setTimeout
  for (const first of ['the wait', 'the notification']) {
    let [endWait, endNotification] = [() => {}, () => {}]
    const waiting = new Promise<string>((resolve) => {
      endWait = () => resolve('over')
    })
    const notifying = new Promise<void>((resolve) => {
      endNotification = resolve
    })
    const outcome = told(waiting, () => notifying)
    if (first === 'the wait') endWait()
    else endNotification()
    await setImmediate()
    endWait()
    endNotification()
    assert.equal(await outcome, 'over')
    await setImmediate()
    // The control: a wait that goes on after a notification has a timer for the next one.
    const expected = first === 'the wait' ? [] : [1001]
    assert.deepEqual(
      timers.filter((time) => time === 1001),
      expected,
      `${first} ends first`,
    )
  }
})
