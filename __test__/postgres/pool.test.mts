// Clients of a pg.Pool: what state they return in, and pools that are full, broken or ended.
import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { after, before, type TestContext, test } from 'node:test'
import pg from 'pg'
import { lockKey, type PostgresLocks, type PostgresOptions, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { until } from '../support/time.mjs'
import { BackendProcess } from './backend.mjs'
import { watching } from './client.mjs'
import { Line } from './line.mjs'
import { PASSWORD, Postgres, USER } from './postgres.mjs'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

type Insides = pg.PoolClient & { connection: { stream: Socket } }

interface Pooled {
  pool: pg.Pool
  locks: PostgresLocks
}

/** The pool has no listener for errors, so an error that reaches it fails the test. */
function pooled(t: TestContext, config: pg.PoolConfig = {}, options: PostgresOptions = {}): Pooled {
  const pool = new pg.Pool({ connectionString: postgres.url(), max: 1, ...config })
  t.after(() => pool.ending || pool.end())
  return { pool, locks: postgresLocks({ pool, ...options }) }
}

function others(t: TestContext): PostgresLocks {
  const locks = postgresLocks({ connectionString: postgres.url() })
  t.after(() => locks.close())
  return locks
}

const superuser = (text: string) => postgres.sql(text, 'ledger', 'postgres')

/** The server process of the only client of a pool, which is borrowed until all calls have returned it. */
async function backendOf(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query('SELECT pg_backend_pid() AS pid')
  return rows[0].pid
}

/** The advisory locks of a name, and of its turn, that a session holds. */
const heldBy = (pid: number) =>
  superuser(`SELECT mode FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = ${pid}`)

test('calls of each outcome return their client to the pool', async (t) => {
  const { pool, locks } = pooled(t)
  const direct = others(t)
  const pid = await backendOf(pool)
  const held = await direct.acquireLock('held')
  const reader = await direct.acquireLock({ name: 'read', shared: true })
  const abort = new AbortController()
  const calls: [string, string | undefined, () => Promise<unknown>][] = [
    ['acquire', undefined, async () => (await locks.acquireLock('free')).release()],
    ['shared', undefined, async () => (await locks.acquireLock({ name: 'read', shared: true })).release()],
    ['refused', 'E_LOCK_CONTENTION', () => locks.acquireLock('held')],
    ['timed out', 'E_LOCK_CONTENTION', () => locks.acquireLock({ name: 'held', timeout: 400 })],
    ['readers', 'E_LOCK_CONTENTION', () => locks.acquireLock({ name: 'read', timeout: 400 })],
    ['inspect', undefined, () => locks.inspectLock('held')],
    ['break', 'E_LOCK_CONTENTION', () => locks.breakLock('held')],
    ['nothing to break', undefined, () => locks.breakLock('free')],
    [
      'aborted',
      'ABORT_ERR',
      () => locks.acquireLock({ name: 'held', timeout: 60_000, signal: abort.signal }),
    ],
  ]
  for (const [what, code, call] of calls) {
    if (what === 'aborted') void postgres.queues(1).then(() => abort.abort())
    const failure = await call().then(
      () => undefined,
      (error) => error,
    )
    assert.equal(failure?.code === 20 ? 'ABORT_ERR' : failure?.code, code, what)
    assert.deepEqual([await backendOf(pool), pool.totalCount], [pid, 1], what)
    assert.deepEqual(await heldBy(pid), [], what)
  }
  await Promise.all([held.release(), reader.release()])
})

test('a take-over that is rolled back leaves the pool unlocked', async (t) => {
  const dead = new BackendProcess(t, 'postgres', postgres.url())
  const { holder } = await dead.asks('acquire', { name: 'rolled back' })
  await dead.ends('SIGKILL')
  const abort = new AbortController()
  const Client = watching((text) => {
    if (text.includes('INSERT')) abort.abort()
    return undefined
  })
  const { pool, locks } = pooled(t, { Client })
  await rejection(locks.acquireLock({ name: 'rolled back', signal: abort.signal }))
  await until(() => pool.idleCount === pool.totalCount, 'the pool lends no client')
  const next = await others(t).acquireLock({ name: 'rolled back', timeout: 2000 })
  assert.deepEqual(next.takenOver?.holder, holder)
  await next.release()
})

test('a cancelled wait statement leaves no turn in the pool', async (t) => {
  const { pool, locks } = pooled(t)
  const direct = others(t)
  const reader = await direct.acquireLock({ name: 'cancelled', shared: true })
  const pid = await backendOf(pool)
  const call = rejection(locks.acquireLock({ name: 'cancelled', timeout: 60_000 }))
  await until(async () => (await heldBy(pid)).length > 0, 'the waiting session has its turn')
  let isOver = false
  void call.then(() => {
    isOver = true
  })
  await until(async () => {
    await superuser(`SELECT pg_cancel_backend(${pid})`)
    return isOver
  }, 'a statement is cancelled')
  assert.equal((await call).code, '57014')
  await until(() => pool.idleCount === pool.totalCount, 'the pool lends no client')
  await (await direct.acquireLock({ name: 'cancelled', shared: true, timeout: 2000 })).release()
  await reader.release()
})

for (const shared of [false, true])
  test(`a wait cancelled at its grant keeps no turn: ${shared ? 'reader' : 'owner'}`, async (t) => {
    let cancels = 0
    class Counting extends pg.Client {
      override query(...args: unknown[]): never {
        const answer = super.query(...(args as [string])) as Promise<unknown> | undefined
        answer?.catch(({ code }) => {
          if (code === '57014') cancels += 1
        })
        return answer as never
      }
    }
    const { locks } = pooled(t, { Client: Counting })
    const name = `granted ${shared}`
    const mode = shared ? '' : '_shared'
    const key = lockKey(name)
    const other = new pg.Client({ connectionString: postgres.url() })
    await other.connect()
    t.after(() => other.end())
    const attempt = async () => {
      await other.query(`SELECT pg_advisory_lock${mode}(${key})`)
      cancels = 0
      const call = locks.acquireLock({ name, shared, timeout: 60_000 }).catch(() => undefined)
      const pid = await until(async () => {
        const [waiting] = await postgres.queues(1)
        return (await heldBy(Number(waiting))).length > 0 && waiting
      }, 'it waits with its turn')
      // The waiting statement gets the lock and its cancellation at once.
      await other.query(`SELECT pg_advisory_unlock${mode}(${key}), pg_cancel_backend(${pid})`)
      const lock = await call
      return lock && { lock, pid }
    }
    const granted = await until(async () => {
      const outcome = await attempt()
      if (cancels > 0) return outcome
      await outcome?.lock.release()
      return undefined
    }, 'a cancelled statement has got the lock')
    const held = await heldBy(Number(granted?.pid))
    await granted?.lock.release()
    assert.deepEqual(held, [{ mode: shared ? 'ShareLock' : 'ExclusiveLock' }])
  })

test('a client that breaks during a wait is replaced', async (t) => {
  const { pool, locks } = pooled(t)
  const lock = await others(t).acquireLock('broken')
  const waiting = locks.acquireLock({ name: 'broken', timeout: 60_000 })
  const [first] = await postgres.queues(1)
  await superuser(`SELECT pg_terminate_backend(${first})`)
  const backends = await until(async () => {
    const [now] = await postgres.queues(1)
    return now !== first && [now]
  }, 'it waits in another session')
  await lock.release()
  await (await waiting).release()
  assert.deepEqual([[await backendOf(pool)], pool.totalCount], [backends, 1])
})

for (const [what, end] of [
  ['server', () => postgres.down()],
  ['network', (client?: pg.PoolClient) => (client as Insides | undefined)?.connection.stream.destroy()],
] as const)
  test(`the pool removes a client whose restore fails: ${what}`, async (t) => {
    let client: pg.PoolClient | undefined
    let restores = 0
    let ending: unknown
    const Client = watching(async (text, isAnswered) => {
      if (!text.includes('AS setting') || isAnswered) return undefined
      restores += 1
      if (restores === 1) {
        ending = end(client)
        await ending
      }
      return undefined
    })
    const { pool, locks } = pooled(t, { Client })
    pool.once('connect', (connected) => {
      client = connected
    })
    const lock = await locks.acquireLock('restored')
    await lock.release()
    await until(() => pool.totalCount === 0, 'the pool has removed the client')
    assert.equal(restores, 1)
    await ending
    if (what === 'server') await postgres.up()
    await (await locks.acquireLock('restored')).release()
  })

test('two calls share a pool of one client in turn', async (t) => {
  const { pool, locks } = pooled(t)
  for (const names of [
    ['same', 'same'],
    ['one', 'two'],
  ]) {
    const [first, second] = names.map((name) => locks.acquireLock({ name, timeout: 20_000 }))
    const lock = await first
    await lock?.release()
    await (await second)?.release()
  }
  const pid = await backendOf(pool)
  assert.deepEqual([pool.totalCount, await heldBy(pid)], [1, []])
})

test('pool.end() waits for the lock, and later calls are refused', async (t) => {
  const { pool, locks } = pooled(t, { max: 2 })
  const lock = await locks.acquireLock('last')
  const end = pool.end()
  for (const timeout of [0, 60_000]) {
    const error = await rejection(locks.acquireLock({ name: 'last', timeout }))
    assert.deepEqual([error.code, error.recoverable], ['ERR_INVALID_STATE', false])
  }
  await lock.confirm()
  await lock.release()
  await end
  const [row] = await postgres.sql(`SELECT released_at FROM reconcile_lock WHERE key = ${lockKey('last')}`)
  assert.ok(row?.released_at)
  assert.equal((await rejection(locks.inspectLock('last'))).code, 'ERR_INVALID_STATE')
})

test('a wait ends with its session after pool.end()', async (t) => {
  const { pool, locks } = pooled(t)
  const lock = await others(t).acquireLock('ended')
  const waiting = rejection(locks.acquireLock({ name: 'ended', timeout: 60_000 }))
  const [pid] = await postgres.queues(1)
  const end = pool.end()
  await superuser(`SELECT pg_terminate_backend(${pid})`)
  assert.equal((await waiting).code, 'ERR_INVALID_STATE')
  await end
  await lock.release()
})

test('a client error on checkout does not end the process', async (t) => {
  const { pool } = pooled(t)
  // As `pg`, if the start of the session and its end are in one packet.
  const lend = (done: (error: Error | undefined, client?: pg.PoolClient) => void) =>
    pool.connect((error, client) => {
      done(error, client)
      client?.emit('error', Object.assign(new Error('terminating connection'), { code: '57P01' }))
    })
  const connect = (done?: Parameters<typeof lend>[0]) =>
    done
      ? lend(done)
      : new Promise<pg.PoolClient>((resolve, reject) =>
          lend((error, client) => (client ? resolve(client) : reject(error))),
        )
  const locks = postgresLocks({ pool: { totalCount: 0, connect } as never })
  await (await locks.acquireLock('lent')).release()
})

test('a client returning to its pool is not in use', async (t) => {
  const line = await Line.start(t, postgres.port)
  line.latency = 40
  const { locks } = pooled(
    t,
    { connectionString: postgres.url('ledger', USER, PASSWORD, line.port), max: 5 },
    { maxConnections: 1 },
  )
  for (let round = 0; round < 4; round += 1) await (await locks.acquireLock('returned')).release()
})
