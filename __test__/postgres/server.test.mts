// Conditions of production servers: locked tables, absent standbys, damaged rows, missing rights.
import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import pg from 'pg'
import { lockInTransaction, lockKey, type PostgresOptions, postgresLocks } from 'reconcile-lock/postgres'
import { rejection } from '../support/directory.mjs'
import { DEADLINE, until } from '../support/time.mjs'
import { BackendProcess } from './backend.mjs'
import { watched } from './client.mjs'
import { Line } from './line.mjs'
import { Postgres } from './postgres.mjs'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

function locksOf(t: TestContext, options: PostgresOptions = {}) {
  const isPlaced = options.connect !== undefined || options.connectionString !== undefined
  const locks = postgresLocks({ ...(!isPlaced && { connectionString: postgres.url() }), ...options })
  t.after(() => locks.close())
  return locks
}

const superuser = (text: string, database = 'ledger') => postgres.sql(text, database, 'postgres')

async function connected(t: TestContext): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: postgres.url() })
  await client.connect()
  t.after(() => client.end())
  return client
}

for (const [what, statement] of [
  ['row', 'SELECT FROM reconcile_lock FOR UPDATE'],
  ['table', 'LOCK TABLE reconcile_lock'],
] as const)
  test(`a locked ${what} rejects calls without ending a session`, async (t) => {
    const locks = locksOf(t, { sessionTimeout: 4000 })
    const lock = await locks.acquireLock('locked')
    const client = await connected(t)
    await client.query('BEGIN')
    await client.query(statement)
    const [backend] = await superuser("SELECT pid FROM pg_locks WHERE locktype = 'advisory'")
    assert.equal((await rejection(lock.release())).code, '55P03')
    assert.equal(lock.signal.aborted, false)
    const error = await rejection(locks.acquireLock('locked'))
    assert.equal(error.code, '55P03')
    assert.equal((await superuser("SELECT FROM pg_locks WHERE locktype = 'advisory'")).length, 0)
    const alive = await superuser(`SELECT FROM pg_stat_activity WHERE pid = ${backend?.pid}`)
    assert.equal(alive.length, 1, 'the session is alive')
    await client.query('COMMIT')
    const next = await locks.acquireLock('locked')
    assert.equal(next.takenOver?.holder.pid, process.pid, 'the row still says that it is held')
    await next.release()
  })

for (const shared of [false, true])
  test(`a prepared transaction ${shared ? 'reads' : 'holds'} the lock`, async (t) => {
    const [locks, client] = [locksOf(t), await connected(t)]
    const name = `prepared ${shared}`
    await client.query('BEGIN')
    if (shared) await client.query('SELECT pg_advisory_xact_lock_shared($1)', [lockKey(name)])
    else await lockInTransaction(client, name)
    await client.query(`PREPARE TRANSACTION '${name}'`)
    const { state, reason } = await locks.inspectLock(name)
    const refused = [locks.acquireLock(name), locks.breakLock({ name, force: true })]
    const errors = await Promise.all(refused.map(rejection))
    await client.query(`ROLLBACK PREPARED '${name}'`)
    assert.equal(state, 'held')
    for (const { code } of errors) assert.equal(code, 'E_LOCK_CONTENTION')
    for (const why of [reason, ...errors.map((error) => error.reason)])
      assert.match(String(why), /^a prepared transaction holds it/)
    const end = String(errors[1]?.reason)
    assert.match(end, /COMMIT PREPARED or ROLLBACK PREPARED/)
    assert.doesNotMatch(end, /pg_terminate_backend/)
    await (await locks.acquireLock(name)).release()
  })

test('the index of names has the collation C', async (t) => {
  await (await locksOf(t).acquireLock('sorted')).release()
  const columns = await postgres.sql(
    `SELECT collname FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
      WHERE attrelid = 'reconcile_lock_pkey'::regclass`,
  )
  assert.deepEqual(columns, [{ collname: 'C' }])
})

test('a wait continues while the table is locked', async (t) => {
  const [locks, client] = [locksOf(t, { sessionTimeout: 4000 }), await connected(t)]
  const lock = await locks.acquireLock('unread')
  await client.query('BEGIN')
  await client.query('LOCK TABLE reconcile_lock')
  const waiting = locksOf(t, { sessionTimeout: 4000 }).acquireLock({
    name: 'unread',
    timeout: 30_000,
    onWait() {},
  })
  await postgres.queues(1)
  await superuser(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted`)
  await client.query('COMMIT')
  await (await waiting).release()
  await rejection(lock.release())
})

test('an absent synchronous standby delays no acquire or release', async (t) => {
  await superuser("ALTER SYSTEM SET synchronous_standby_names = 'away'")
  await superuser('SELECT pg_reload_conf()')
  t.after(async () => {
    await superuser('ALTER SYSTEM RESET synchronous_standby_names')
    await superuser('SELECT pg_reload_conf()')
  })
  const locks = locksOf(t, { sessionTimeout: 4000 })
  const lock = await locks.acquireLock('standby')
  assert.equal(lock.isHeld(), true)
  await lock.release()
})

test('E_LOCK_TABLE names an invalid row and its fault', async (t) => {
  const locks = locksOf(t)
  await (await locks.acquireLock('odd')).release()
  await postgres.sql("UPDATE reconcile_lock SET acquired_at = 'infinity' WHERE name = 'odd'")
  const status = await rejection(locks.inspectLock('odd'))
  assert.equal(status.code, 'E_LOCK_TABLE')
  assert.match(status.message, /row odd .* acquired_at/)
  await (await locks.acquireLock('odd')).release()
  assert.equal((await locks.inspectLock('odd')).state, 'free', 'the acquire has repaired it')
  await postgres.sql(`UPDATE reconcile_lock SET token = ${2n ** 63n - 1n} WHERE name = 'odd'`)
  const error = await rejection(locks.acquireLock('odd'))
  assert.equal(error.code, 'E_LOCK_TABLE')
  assert.match(error.message, /row odd .* largest possible token/)
  assert.equal((await locks.inspectLock('odd')).state, 'free')
})

test('a server with stub advisory locks is refused', async (t) => {
  const connect = () =>
    watched(postgres.url(), (text) =>
      text.includes('pg_try_advisory_lock') ? { rows: [{ answer: 'true' }] } : undefined,
    )
  const error = await rejection(locksOf(t, { connect }).acquireLock('stub'))
  assert.equal(error.code, 'E_LOCK_UNSUPPORTED')
  assert.match(error.message, /pg_locks does not show it/)
  assert.deepEqual(await postgres.sql("SELECT FROM reconcile_lock WHERE name = 'stub'"), [])
})

test('a role without PL/pgSQL can wait', async (t) => {
  await superuser('REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC')
  t.after(() => superuser('GRANT USAGE ON LANGUAGE plpgsql TO PUBLIC'))
  const lock = await locksOf(t).acquireLock('plain')
  const others = locksOf(t)
  assert.equal(
    (await rejection(others.acquireLock({ name: 'plain', timeout: 300 }))).code,
    'E_LOCK_CONTENTION',
  )
  const waiting = others.acquireLock({ name: 'plain', timeout: 30_000 })
  await lock.release()
  await (await waiting).release()
})

test('a right to PL/pgSQL that is lost leaves no turn', async (t) => {
  const name = 'turn'
  const reader = await locksOf(t).acquireLock({ name, shared: true })
  const advisory = () => superuser("SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted")
  let isRevoked = false
  let refusals = 0
  const connect = () =>
    watched(postgres.url(), (text, isAnswered) => {
      if (isRevoked && !isAnswered && text.includes('PERFORM')) refusals += 1
      return undefined
    })
  const waiting = locksOf(t, { connect }).acquireLock({ name, timeout: DEADLINE })
  await until(async () => (await advisory()).length === 2, 'the waiting session has its turn')
  await superuser('REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC')
  t.after(() => superuser('GRANT USAGE ON LANGUAGE plpgsql TO PUBLIC'))
  isRevoked = true
  await until(() => refusals > 0, 'a statement is refused')
  await reader.release()
  const lock = await waiting
  assert.equal((await advisory()).length, 1)
  await lock.release()
})

test('pg_cancel_backend ends a wait without the lock', async (t) => {
  const lock = await locksOf(t).acquireLock('cancelled')
  let code: unknown
  void rejection(locksOf(t).acquireLock({ name: 'cancelled', timeout: 60_000 })).then((error) => {
    code = error.code
  })
  // Between two statements of the wait there is nothing to cancel.
  const cancel = "SELECT pg_cancel_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
  await until(async () => (await superuser(cancel)) && code, 'a statement of the wait is cancelled')
  assert.equal(code, '57014')
  await lock.release()
  await (await locksOf(t).acquireLock('cancelled')).release()
})

test('sslmode=require without TLS rejects with 08001', async (t) => {
  const locks = locksOf(t, { connectionString: `${postgres.url()}?sslmode=require` })
  const { code, message, recoverable } = await rejection(locks.acquireLock('tls'))
  assert.deepEqual([code, recoverable], ['08001', true])
  assert.match(message, /SSL/)
})

test('the server frees a lock whose grant was not delivered', async (t) => {
  const line = await Line.start(t, postgres.port)
  class DropsGrant extends pg.Client {
    override query(...args: unknown[]): never {
      const [{ text = '' }] = args as [{ text?: string }]
      const answer = super.query(args[0] as string) as unknown as Promise<unknown>
      if (!text.includes('pg_try_advisory_lock')) return answer as never
      return answer.then(() => {
        line.isSilent = true
        return new Promise(() => {})
      }) as never
    }
  }
  let connections = 0
  const connect = () => {
    connections += 1
    return connections === 1
      ? new DropsGrant({ connectionString: postgres.url('ledger', undefined, undefined, line.port) })
      : new pg.Client({ connectionString: postgres.url() })
  }
  const locks = locksOf(t, { connect, sessionTimeout: 4000 })
  assert.equal((await rejection(locks.acquireLock('lost'))).code, 'ETIMEDOUT')
  const lock = await locksOf(t).acquireLock({ name: 'lost', timeout: 20_000 })
  assert.equal(connections, 2)
  await lock.release()
})

test('each session has its own prepared statement names', async (t) => {
  const clients: pg.Client[] = []
  const connect = () => {
    const client = new pg.Client({ connectionString: postgres.url() })
    clients.push(client)
    return client
  }
  const locks = locksOf(t, { connect })
  await (await locks.acquireLock('names')).release()
  const names = async (client: pg.Client | undefined) => {
    const { rows } = (await client?.query('SELECT name FROM pg_prepared_statements')) ?? { rows: [] }
    return rows.map(({ name }) => name as string)
  }
  const first = await names(clients[0])
  const lock = await locks.acquireLock('names')
  const other = locksOf(t, { connect })
  await rejection(other.acquireLock('names'))
  const second = await names(clients[1])
  assert.ok(first.length > 0 && second.length > 0)
  assert.deepEqual(
    first.filter((name) => second.includes(name)),
    [],
  )
  await lock.release()
})

test('breakLock with force ends only the recorded session', async (t) => {
  const locks = locksOf(t)
  const client = await connected(t)
  await (await locks.acquireLock('foreign')).release()
  await client.query('SELECT pg_advisory_lock($1)', [lockKey('foreign')])
  const [{ pid }] = (await client.query('SELECT pg_backend_pid() AS pid')).rows
  const error = await rejection(locks.breakLock({ name: 'foreign', force: true }))
  assert.equal(error.code, 'E_LOCK_CONTENTION')
  assert.match(
    String(error.reason),
    new RegExp(`process ${pid} of the server .* another program's advisory lock`),
  )
  // The process id of a dead holder, which the session of that program has now.
  await postgres.sql(
    `UPDATE reconcile_lock SET backend = ${pid}, started = '1', released_at = NULL WHERE name = 'foreign'`,
  )
  assert.equal((await rejection(locks.breakLock({ name: 'foreign', force: true }))).code, 'E_LOCK_CONTENTION')
  assert.equal((await client.query('SELECT 1')).rowCount, 1)
})

test('a late release ends only its own session', async (t) => {
  const ended: unknown[][] = []
  const connect = () =>
    watched(postgres.url(), (text, isAnswered, values) => {
      if (!isAnswered && text.includes('pg_terminate_backend')) ended.push(values)
      return undefined
    })
  const locks = locksOf(t, { connect })
  const lock = await locks.acquireLock('late')
  const [row] = await postgres.sql("SELECT backend, started FROM reconcile_lock WHERE name = 'late'")
  await superuser("SELECT pg_terminate_backend(backend) FROM reconcile_lock WHERE name = 'late'")
  const peer = new BackendProcess(t, 'postgres', postgres.url())
  assert.equal((await peer.asks('acquire', { name: 'late' })).ok, true)
  assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
  assert.deepEqual(ended, [[row?.backend, row?.started]])
  // A session with the same process id and another start is another session.
  const [now] = await postgres.sql("SELECT backend FROM reconcile_lock WHERE name = 'late'")
  const client = await connected(t)
  const text = `SELECT pid FROM pg_stat_activity WHERE pid = $1
    AND floor(extract(epoch FROM backend_start) * 1000000)::bigint::text = $2`
  assert.equal((await client.query(text, [now?.backend, row?.started])).rowCount, 0)
  assert.equal((await peer.asks('release', { name: 'late' })).ok, true)
})
