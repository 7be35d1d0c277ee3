// Shared mode on PostgreSQL: any number of readers, or one owner.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { lockKey, type PostgresLocks, postgresLocks } from 'reconcile-lock/postgres'
import { send } from '../support/child.mjs'
import { cli } from '../support/cli.mjs'
import { directory, rejection } from '../support/directory.mjs'
import { DEADLINE, until } from '../support/time.mjs'
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

/** How many sessions hold the key of a name, by mode. */
const modes = async (name: string) => {
  const rows = await postgres.sql(
    `SELECT mode, count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
       AND (classid::bigint << 32 | objid::bigint) = ${lockKey(name)} GROUP BY mode ORDER BY mode`,
  )
  return JSON.stringify(rows)
}

test('readers of several processes hold the lock', async (t) => {
  const name = 'several'
  const peer = new BackendProcess(t, 'postgres', postgres.url())
  assert.equal((await peer.asks('acquire', { name, shared: true })).ok, true)
  const [one, two] = [
    await locks.acquireLock({ name, shared: true }),
    await locks.acquireLock({ name, shared: true }),
  ]
  assert.equal(one.token, 0n)
  await two.confirm()
  assert.match(await modes(name), /ShareLock.*3/)
  const { code, reason } = await rejection(locks.acquireLock({ name }))
  assert.equal(code, 'E_LOCK_CONTENTION')
  assert.match(String(reason), /^this process holds it in shared mode: release it first$/)
  await one.release()
  await two.release()
  const refused = async () => {
    const asked = performance.now()
    const { reason } = await rejection(locks.acquireLock({ name }))
    assert.match(String(reason), /^process \d+ of the server \(.+\) holds it in shared mode$/)
    return performance.now() - asked
  }
  // A holder without a row has 100 ms to write it, but readers write none.
  assert.ok((await quickest(100, refused)) < 100)
  await peer.asks('release', { name })
  await (await locks.acquireLock({ name })).release()
})

/** Ends the only session that holds the key of a name. */
const end = (name: string) =>
  postgres.sql(
    `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
       AND (classid::bigint << 32 | objid::bigint) = ${lockKey(name)}`,
    'ledger',
    'postgres',
  )

for (const isNoticed of [true, false])
  test(`a refusal after a loss ${isNoticed ? 'with' : 'without'} notice names the holder`, async (t) => {
    const name = `lost reader ${isNoticed}`
    const line = await Line.start(t, postgres.port)
    const ports = [line.port]
    const connect = () => new pg.Client(postgres.url('ledger', undefined, undefined, ports.pop()))
    const locks = postgresLocks({ connect })
    t.after(() => locks.close())
    const reader = await locks.acquireLock({ name, shared: true })
    line.isSilent = !isNoticed
    await end(name)
    if (isNoticed) await until(() => reader.signal.aborted, 'the loss is noticed')
    const peer = new BackendProcess(t, 'postgres', postgres.url())
    await until(async () => (await peer.asks('acquire', { name })).ok, 'another process holds the lock')
    assert.equal(reader.isHeld(), !isNoticed)
    const { code, holder, reason } = await rejection(locks.acquireLock({ name }))
    assert.deepEqual([code, reason], ['E_LOCK_CONTENTION', undefined])
    assert.equal((holder as { pid: number }).pid, peer.child.pid)
    line.isSilent = false
    assert.equal((await rejection(reader.release())).code, 'E_LOCK_LOST')
  })

test('readers report an owner that did not release', async (t) => {
  const name = 'owned'
  const peer = new BackendProcess(t, 'postgres', postgres.url())
  await peer.asks('acquire', { name })
  const { code, holder } = await rejection(locks.acquireLock({ name, shared: true }))
  assert.deepEqual([code, (holder as { pid: number }).pid], ['E_LOCK_CONTENTION', peer.child.pid])
  const waiting = locks.acquireLock({ name, shared: true, timeout: 30_000 })
  await peer.ends('SIGKILL')
  const reader = await waiting
  assert.equal(reader.takenOver?.holder.pid, peer.child.pid)
  assert.ok(reader.token > 0n)
  const second = await locks.acquireLock({ name, shared: true })
  assert.deepEqual(second.takenOver, reader.takenOver)
  await reader.release()
  await second.release()
  const owner = await locks.acquireLock({ name })
  assert.equal(owner.takenOver?.holder.pid, peer.child.pid)
  assert.ok(owner.token > reader.token)
  await owner.release()
})

test('an owner that waits for readers refuses new ones', async (t) => {
  const name = 'turns'
  let isOver = false
  let entered = 0
  const isInside = new Set<object>()
  const read = async () => {
    while (!isOver) {
      const lock = await locks.acquireLock({ name, shared: true, timeout: 60_000 })
      entered += 1
      isInside.add(lock)
      // Longer than a statement waits, and never all at once.
      await new Promise((resolve) => setTimeout(resolve, 700 + 300 * Math.random()))
      isInside.delete(lock)
      await lock.release()
    }
  }
  const reading = Promise.all(Array.from({ length: 4 }, read))
  await until(() => isInside.size > 1, 'readers hold the lock')
  for (let round = 0; round < 3; round += 1) {
    const before = entered
    const asked = performance.now()
    const owner = await locks.acquireLock({ name, timeout: 60_000 })
    const waited = performance.now() - asked
    t.diagnostic(`an owner waited for ${waited.toFixed(0)} ms`)
    // The readers that are inside need one second; new ones would take their place.
    assert.ok(waited < 3000, `${waited} ms`)
    assert.equal(isInside.size, 0)
    assert.equal((await rejection(locks.acquireLock({ name, shared: true }))).code, 'E_LOCK_CONTENTION')
    await owner.release()
    await until(() => entered > before, 'readers hold the lock again')
  }
  isOver = true
  await reading
  assert.equal(await modes(name), '[]')
})

test('a wait for readers that ends lets new ones in', async () => {
  const name = 'given up'
  const reader = await locks.acquireLock({ name, shared: true })
  const abort = new AbortController()
  const waits = [
    rejection(locks.acquireLock({ name, timeout: 600 })),
    rejection(locks.acquireLock({ name, timeout: 60_000, signal: abort.signal })),
  ]
  assert.equal((await waits[0])?.code, 'E_LOCK_CONTENTION')
  assert.equal((await rejection(locks.acquireLock({ name, shared: true }))).code, 'E_LOCK_CONTENTION')
  abort.abort()
  assert.equal((await waits[1])?.name, 'AbortError')
  // Of another pool: the session that has waited could take its own turn.
  const others = postgresLocks({ connectionString: postgres.url() })
  await (await others.acquireLock({ name, shared: true, timeout: 3000 })).release()
  await others.close()
  await reader.release()
  await (await locks.acquireLock({ name })).release()
})

/** Whether a session that waits for readers has its turn. No other session owns a lock then. */
const hasTurn = async () => {
  const turn = `SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'`
  return (await postgres.sql(turn)).length === 1
}

test('a stopped waiter loses its turn, and waits on', async (t) => {
  if (postgres.version < 14) return t.skip('the server has no idle_session_timeout')
  const name = 'stopped'
  const reader = await locks.acquireLock({ name, shared: true })
  const program = `const { postgresLocks } = require('reconcile-lock/postgres')
    postgresLocks({ connectionString: ${JSON.stringify(postgres.url())}, sessionTimeout: 4000 })
      .acquireLock({ name: '${name}', timeout: 120_000 }).then((lock) => lock.release())`
  const child = spawn(process.execPath, ['-e', program], { cwd: import.meta.dirname, stdio: 'inherit' })
  t.after(() => child.exitCode === null && child.signalCode === null && send(child, 'SIGKILL'))
  const exit = once(child, 'exit')
  await until(hasTurn, 'the waiter has its turn')
  send(child, 'SIGSTOP')
  await until(() => /\) T /.test(readFileSync(`/proc/${child.pid}/stat`, 'utf8')), 'the waiter is stopped')
  await postgres.queues(0)
  await reader.release()
  await (await locks.acquireLock({ name, shared: true, timeout: DEADLINE })).release()
  send(child, 'SIGCONT')
  assert.deepEqual(await exit, [0, null])
})

test('a turn leaves no setting in the session', async (t) => {
  if (postgres.version < 14) return t.skip('the server has no idle_session_timeout')
  const name = 'setting'
  const pool = new pg.Pool({ connectionString: postgres.url(), max: 1 })
  t.after(() => pool.end())
  const client = await pool.connect()
  await client.query("SET idle_session_timeout = '1h'")
  client.release()
  const setting = async () => (await client.query('SHOW idle_session_timeout')).rows[0].idle_session_timeout
  const reader = await locks.acquireLock({ name, shared: true })
  const waiting = postgresLocks({ pool }).acquireLock({ name, timeout: DEADLINE })
  await until(hasTurn, 'the waiter has its turn')
  await reader.release()
  const lock = await waiting
  const during = await setting()
  await lock.release()
  assert.equal(during, '0')
  await until(() => pool.idleCount === 1, 'the client is back in the pool')
  assert.equal(await setting(), '1h')
})

test('inspectLock and breakLock report the readers', async () => {
  const name = 'inspected'
  const readers = [
    await locks.acquireLock({ name, shared: true }),
    await locks.acquireLock({ name, shared: true }),
  ]
  const status = await locks.inspectLock(name)
  assert.deepEqual([status.state, status.holder, status.readers?.length], ['held', undefined, 2])
  assert.match(status.reason, /^2 sessions hold it in shared mode: process \d+ of the server/)
  for (const { backend, user } of status.readers ?? []) assert.ok(backend > 0 && user)
  const { code, reason } = await rejection(locks.breakLock({ name, force: true }))
  assert.equal(code, 'E_LOCK_CONTENTION')
  assert.match(String(reason), /end their processes with pg_terminate_backend$/)
  for (const reader of readers) await reader.release()
  assert.equal((await locks.inspectLock(name)).state, 'free')
})

test('a reader needs no table, and writes no row', async () => {
  await postgres.sql('CREATE DATABASE bare', 'ledger', 'postgres')
  const other = postgresLocks({ connectionString: postgres.url('bare') })
  const lock = await other.acquireLock({ name: 'bare', shared: true })
  assert.deepEqual([lock.token, lock.holder.pid], [0n, process.pid])
  await lock.release()
  assert.deepEqual(await other.inspectLock('bare'), {
    path: lock.path,
    state: 'free',
    reason: 'no session holds the lock',
  })
  await other.close()
})

test('run --shared holds the lock in shared mode', async (t) => {
  const name = 'command line'
  const reader = await locks.acquireLock({ name, shared: true })
  const run = (...flags: string[]) =>
    cli(directory(t), ['run', '--postgres', postgres.url(), '--name', name, ...flags, '--', 'true'])
  assert.deepEqual([run('--shared').code, run('-s').code, run().code], [0, 0, 75])
  await reader.release()
})
