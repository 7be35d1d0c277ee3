// Arguments of the calls on PostgreSQL locks: names, locks, `connect` and the environment.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, before, mock, test } from 'node:test'
import pg from 'pg'
import { lockInTransaction, type PostgresLock, postgresLocks } from 'reconcile-lock/postgres'
import { replacesImports } from '../support/deno.mjs'
import { rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { DEADLINE } from '../support/time.mjs'
import { watched } from './client.mjs'
import { PASSWORD, Postgres, USER } from './postgres.mjs'

let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

test('releaseLock with a lock releases only that lock', async () => {
  await using locks = postgresLocks({ connectionString: postgres.url() })
  const [first, second] = [await locks.acquireLock('first'), await locks.acquireLock('second')]
  await locks.releaseLock(second)
  assert.deepEqual([first.isHeld(), second.isHeld()], [true, false])
  const again = await locks.acquireLock('second')
  await locks.releaseLock(second)
  assert.ok(again.isHeld(), 'a released lock does not release a later one of its name')
  assert.equal((await locks.inspectLock(again)).state, 'held')
  assert.equal((await rejection(locks.breakLock(again))).code, 'E_LOCK_CONTENTION')
  await locks.releaseLock({ name: 'second', timeout: 5, onWait() {} })
  assert.ok(!again.isHeld())
  const { release, isHeld } = first
  await Promise.resolve().finally(release)
  assert.ok(!isHeld())
})

test('releaseLock ignores a lock of another object', async () => {
  await using locks = postgresLocks({ connectionString: postgres.url() })
  await using others = postgresLocks({ connectionString: postgres.url() })
  const lock = await locks.acquireLock('theirs')
  for (const target of [lock, 'theirs']) await others.releaseLock(target)
  assert.equal(lock.isHeld(), true)
  await lock.confirm()
  await locks.releaseLock(lock)
  assert.equal(lock.isHeld(), false)
})

test('a release of each form waits for the pending one', async () => {
  let answer = () => {}
  const pending = new Promise<undefined>((resolve) => {
    answer = () => resolve(undefined)
  })
  const isRelease = (text: string) => text.includes('COMMIT; SELECT pg_advisory_unlock')
  const connect = () => watched(postgres.url(), (text) => (isRelease(text) ? pending : undefined))
  await using locks = postgresLocks({ connect })
  const lock = await locks.acquireLock('pending')
  const forms = {
    'lock.release': () => lock.release(),
    'releaseLock with a lock': () => locks.releaseLock(lock),
    'releaseLock with a name': () => locks.releaseLock('pending'),
    'await using': () => lock[Symbol.asyncDispose](),
  }
  const settled: string[] = []
  const releases = Object.entries(forms).map(([form, release]) => release().then(() => settled.push(form)))
  assert.equal(lock.isHeld(), false)
  assert.equal((await locks.inspectLock('pending')).state, 'held')
  assert.deepEqual(settled, [])
  answer()
  await Promise.all(releases)
  assert.equal((await locks.inspectLock('pending')).state, 'free')
})

test('arguments other than names, locks and plain objects are refused', async () => {
  await using locks = postgresLocks({ connectionString: postgres.url() })
  for (const value of [null, 5, [], new Map(), Promise.resolve(), Object.create({ name: 'n' })]) {
    for (const call of [locks.acquireLock, locks.releaseLock, locks.inspectLock, locks.breakLock])
      assert.equal((await rejection(call(value as never))).code, 'ERR_INVALID_ARG_TYPE')
  }
})

test('an argument after the name or options is refused', async () => {
  await using locks = postgresLocks({ connectionString: postgres.url() })
  const more = (call: unknown) => (call as (...args: unknown[]) => Promise<unknown>)('n', { timeout: 5 })
  const client = new pg.Client()
  for (const [name, call] of Object.entries({
    acquireLock: locks.acquireLock,
    releaseLock: locks.releaseLock,
    inspectLock: locks.inspectLock,
    breakLock: locks.breakLock,
    withLock: (...args: never[]) => locks.withLock(() => {}, ...args),
    lockInTransaction: (...args: never[]) => lockInTransaction(client, ...args),
  })) {
    const error = await rejection(more(call))
    assert.ok(error instanceof TypeError, name)
    assert.equal(error.code, 'ERR_INVALID_ARG_VALUE', name)
    assert.match(error.message, /takes (one argument,|a client and) a name or options/)
  }
  const unset = locks.acquireLock as (...args: unknown[]) => Promise<PostgresLock>
  await (await unset('n', undefined)).release()
})

test('connect must return a new client', async (t) => {
  const connectionString = postgres.url()
  const pool = new pg.Pool({ connectionString, max: 1 })
  const connected = new pg.Client({ connectionString })
  await connected.connect()
  t.after(() => Promise.all([pool.end(), connected.end()]))
  for (const [what, connect] of [
    ['a pool', () => pool],
    ['a client of a pool', () => pool.connect()],
    ['a client that is connected', async () => connected],
    ['undefined', () => undefined],
    ['an object without the method query', () => ({ connect() {} })],
  ] as const) {
    await using locks = postgresLocks({ connect: connect as never })
    const error = await rejection(locks.acquireLock('wrong'))
    assert.ok(error instanceof TypeError)
    assert.equal(error.code, 'ERR_INVALID_RETURN_VALUE')
    assert.ok(error.message.endsWith(`and returned ${what}`), error.message)
  }
  for (const usable of [pool, connected]) assert.equal((await usable.query('SELECT 1')).rowCount, 1)
  await using late = postgresLocks({ connect: () => new Promise<never>(() => {}), connectTimeout: 200 })
  assert.equal((await rejection(late.acquireLock('late'))).code, 'ETIMEDOUT')
})

test('JSON.stringify prints a lock with its token as string', async () => {
  await using locks = postgresLocks({ connectionString: postgres.url() })
  await using lock = await locks.acquireLock('json')
  const { path, name, token, holder } = lock
  assert.deepEqual(JSON.parse(JSON.stringify(lock)), { path, name, token: String(token), holder })
})

test(
  'calls settle while mock.timers are enabled',
  knownFailure(replacesImports, async () => {
    const locks = postgresLocks({ connectionString: postgres.url() })
    mock.timers.enable()
    try {
      const lock: PostgresLock = await locks.acquireLock('timers')
      const timesOut = locks.acquireLock({ name: 'timers', timeout: 200 })
      assert.equal((await rejection(timesOut)).code, 'E_LOCK_CONTENTION')
      let reports = 0
      const onWait = () => {
        reports += 1
        if (reports === 2) lock.release()
      }
      await (await locks.acquireLock({ name: 'timers', timeout: DEADLINE, onWait })).release()
    } finally {
      mock.timers.reset()
      // With mock.timers enabled, a client of pg does not end in Bun.
      await locks.close()
    }
  }),
)

/** The output of a program whose environment is `env` and PATH. */
function printed(env: NodeJS.ProcessEnv): string {
  const program = `
    const { postgresLocks } = require('reconcile-lock/postgres')
    const text = async () => {
      const locks = postgresLocks({ connectionString: process.env.DATABASE_URL })
      const { path } = await locks.inspectLock('name')
      await locks.close()
      return path
    }
    text().catch((error) => error.code + ' ' + error.message).then(console.log)`
  const { PATH } = process.env
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', program], {
    cwd: import.meta.dirname,
    env: { PATH, ...env },
    encoding: 'utf8',
    timeout: 60_000,
  })
  return stdout || stderr
}

test('an undefined connectionString uses the PG* variables', () => {
  const PGPORT = String(postgres.port)
  const env = { PGHOST: '127.0.0.1', PGPORT, PGUSER: USER, PGPASSWORD: PASSWORD, PGDATABASE: 'ledger' }
  assert.equal(printed(env), `postgresql://127.0.0.1:${PGPORT}/ledger#name\n`)
})

test('an undefined connectionString without PG* variables is refused', () => {
  assert.match(
    printed({}),
    /^ERR_INVALID_ARG_VALUE The "connectionString" option is undefined: .* or set one of PGHOST, PGPORT, PGUSER, PGDATABASE\n$/,
  )
})
