import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type PostgresLocks, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
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
  const queue = `SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`
  for (const index of [0, 1, 2, 3, 4, 5]) {
    const mine = locks.acquireLock({ name: 'order', timeout: 10_000 })
    waiting.push(
      mine.then((won) => {
        order.push(index)
        return won.release()
      }),
    )
    while ((await postgres.sql(queue)).length <= index);
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
  await delay(200)
  await lock.release()
  await Promise.all(waiting)
})

test('a wait asks the server nothing, and costs it nothing but a place', async () => {
  const lock = await locks.acquireLock('quiet')
  const waiting = rejection(locks.acquireLock({ name: 'quiet', timeout: 1500 }))
  await delay(200)
  const asked = `SELECT query_start FROM pg_stat_activity WHERE wait_event = 'advisory'`
  const first = await postgres.sql(asked, 'ledger', 'postgres')
  await delay(1000)
  assert.deepEqual(await postgres.sql(asked, 'ledger', 'postgres'), first)
  assert.equal(first.length, 1)
  assert.equal((await waiting).code, 'E_LOCK_CONTENTION')
  await lock.release()
})

test('onWait names the holder of the moment', async (t) => {
  const [one, two] = [new Member(t, 'postgres', postgres.url()), new Member(t, 'postgres', postgres.url())]
  await one.asks('acquire', { name: 'moment' })
  const second = two.asks('acquire', { name: 'moment', timeout: 10_000 })
  await delay(200)
  const told: (number | undefined)[] = []
  const onWait = ({ holder }: { holder?: { pid: number } }) => void told.push(holder?.pid)
  const call = rejection(locks.acquireLock({ name: 'moment', timeout: 1500, onWait }))
  await delay(300)
  await one.asks('release', { name: 'moment' })
  await second
  await call
  assert.deepEqual(told, [one.child.pid, two.child.pid])
})

type Told = <T>(waiting: Promise<T>, tell: () => Promise<void>) => Promise<T>
const { told }: { told: Told } = createRequire(import.meta.url)('../../../postgres/dist/tell.js')

test('nobody is told of a wait that has ended meanwhile', async () => {
  let count = 0
  const tell = async () => {
    count += 1
    await delay(100)
  }
  assert.equal(await told(delay(50, 'over'), tell), 'over')
  await delay(1300)
  assert.equal(count, 1)
})
