// Calls that arguments, the server or the network refuse, and settings of roles and programs.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import { runInNewContext } from 'node:vm'
import pg from 'pg'
import { LockError, lockKey, type PostgresOptions, postgresLocks, tableSql } from 'reconcile-lock/postgres'
import { directory, rejection } from '../support/directory.mjs'
import { freePort } from '../support/port.mjs'
import { sleep } from '../support/time.mjs'
import { Postgres, USER } from './postgres.mjs'

const root = fileURLToPath(new URL('../../..', import.meta.url))
let postgres: Postgres
before(async () => {
  postgres = await Postgres.start()
})
after(() => postgres.stop())

function locksOf(t: TestContext, options: PostgresOptions = { connectionString: postgres.url() }) {
  const locks = postgresLocks(options)
  t.after(() => locks.close())
  return locks
}
const superuser = <R extends pg.QueryResultRow>(text: string, database = 'ledger') =>
  postgres.sql<R>(text, database, 'postgres')

const wrong: [string, unknown, string][] = [
  ['undefined', undefined, 'ERR_INVALID_ARG_TYPE'],
  ['null', null, 'ERR_INVALID_ARG_TYPE'],
  ['a URL as options', 'postgres://localhost', 'ERR_INVALID_ARG_TYPE'],
  ['options without connectionString and connect', {}, 'ERR_INVALID_ARG_VALUE'],
  [
    'connectionString and connect',
    { connectionString: 'postgres:', connect: () => new pg.Client() },
    'ERR_INVALID_ARG_VALUE',
  ],
  ['an empty connectionString', { connectionString: '' }, 'ERR_INVALID_ARG_VALUE'],
  ['a URL object as connectionString', { connectionString: new URL('pg://x') }, 'ERR_INVALID_ARG_TYPE'],
  ['a client as connect', { connect: new pg.Client() }, 'ERR_INVALID_ARG_TYPE'],
  ['an unknown option', { connectionString: 'x', retries: 1 }, 'ERR_INVALID_ARG_VALUE'],
  ['a schema with a null byte', { connectionString: 'x', schema: 'a\0' }, 'ERR_INVALID_ARG_VALUE'],
  ['a temporary schema', { connectionString: 'x', schema: 'pg_temp' }, 'ERR_INVALID_ARG_VALUE'],
  ['a sessionTimeout below the minimum', { connectionString: 'x', sessionTimeout: 3999 }, 'ERR_OUT_OF_RANGE'],
  ['an infinite sessionTimeout', { connectionString: 'x', sessionTimeout: Infinity }, 'ERR_OUT_OF_RANGE'],
  ['a connectTimeout of 0', { connectionString: 'x', connectTimeout: 0 }, 'ERR_OUT_OF_RANGE'],
]
for (const [what, options, code] of wrong)
  test(`postgresLocks refuses ${what}`, () => {
    assert.throws(() => postgresLocks(options as PostgresOptions), { code })
  })

test('a name has at most 255 characters of any size', async (t) => {
  const locks = locksOf(t)
  const name = '🔒'.repeat(255)
  await (await locks.acquireLock(name)).release()
  assert.equal((await rejection(locks.acquireLock(`${name}x`))).code, 'ERR_INVALID_ARG_VALUE')
})

test('server errors keep their code and contain no password', async (t) => {
  for (const [url, code] of [
    [postgres.url('ledger', USER, 'wrong-secret'), '28P01'],
    [postgres.url('nowhere'), '3D000'],
  ] as const) {
    const locks = locksOf(t, { connectionString: url })
    for (const call of [() => locks.acquireLock({ timeout: 1000 }), () => locks.inspectLock()]) {
      const error = await rejection(call())
      assert.equal(error.code, code)
      assert.doesNotMatch(`${error.message}${JSON.stringify(error)}`, /secret|p@ss|p%40ss/)
    }
  }
})

for (const rest of [
  'u:secret@host:port/d',
  'u:secret@[/d',
  'u:secret@localhost:99999/d',
  'u:secret@localhost/d?port=99999',
  'u:secret@localhost/d?port=secret',
  'u:secret@localhost/%',
  'u:secret@localhost/%ff',
  'u:secret%ff@localhost/d',
  'u%ff:secret@localhost/d',
  'u:secret\ud800@localhost/d e',
  'u:secret@localhost/d?uselibpqcompat=true&sslmode=verify-ca',
])
  test(`the invalid URL ${JSON.stringify(rest)} is refused without the password`, async (t) => {
    const error = await rejection(locksOf(t, { connectionString: `postgres://${rest}` }).acquireLock())
    assert.equal(error.code, 'ERR_INVALID_ARG_VALUE')
    assert.doesNotMatch(inspect(error), /secret/)
  })

test('a refused connection is ECONNREFUSED with a message', async (t) => {
  const port = await freePort()
  for (const host of ['127.0.0.1', 'localhost']) {
    const error = await rejection(
      locksOf(t, { connectionString: `postgres://u:secret@${host}:${port}/d` }).acquireLock(),
    )
    assert.equal(error.code, 'ECONNREFUSED')
    assert.match(error.message, new RegExp(`ECONNREFUSED .*:${port}`))
  }
})

test('an error of another realm is recoverable, as in Jest', async (t) => {
  const refused = runInNewContext(`
    Object.assign(new AggregateError([new Error('no'), new Error('never')]), { code: 'ECONNREFUSED' })`)
  const connect = () =>
    Object.assign(new pg.Client(postgres.url()), { connect: () => Promise.reject(refused) })
  const error = await rejection(locksOf(t, { connect }).acquireLock())
  assert.equal(error, refused)
  assert.deepEqual([error.recoverable, error.message], [true, 'no, never'])
})

test('network errors have errno and syscall, but not path', async (t) => {
  const port = await freePort()
  for (const [host, code, syscall] of [
    ['127.0.0.1', 'ECONNREFUSED', 'connect'],
    ['host.invalid', 'ENOTFOUND|EAI_AGAIN', 'getaddrinfo'],
  ] as const) {
    const locks = locksOf(t, { connectionString: `postgres://u@${host}:${port}/d` })
    const error: NodeJS.ErrnoException = await rejection(locks.acquireLock())
    assert.match(error.code ?? '', new RegExp(code))
    assert.deepEqual([typeof error.errno, error.syscall, error.path], ['number', syscall, undefined])
  }
})

test('connectTimeout ends a call to a silent server', async (t) => {
  const server = createServer(() => {}).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  const locks = locksOf(t, { connectionString: `postgres://u@127.0.0.1:${port}/d`, connectTimeout: 300 })
  const error = await rejection(locks.acquireLock())
  assert.deepEqual(
    [error.code, error.message],
    ['ETIMEDOUT', `The connection to postgresql://127.0.0.1:${port}/d was not made within 300 ms`],
  )
})

test('a role without CREATE gets the SQL in the error', async (t) => {
  await superuser(`CREATE ROLE clerk LOGIN PASSWORD 'clerk'`)
  await superuser('CREATE DATABASE strict')
  // As PostgreSQL 15 and newer create a database.
  await superuser('REVOKE CREATE ON SCHEMA public FROM PUBLIC', 'strict')
  const locks = locksOf(t, { connectionString: postgres.url('strict', 'clerk') })
  const error = await rejection(locks.acquireLock())
  assert.ok(error instanceof LockError)
  assert.deepEqual([error.code, error.recoverable], ['E_LOCK_TABLE', false])
  const sql = tableSql('public')
  assert.ok(error.message.includes(sql.trim()), error.message)
  assert.equal((error.cause as { code: string }).code, '42501')
  const [locked] = await superuser<{ count: string }>(
    `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'`,
    'strict',
  )
  assert.equal(locked?.count, '0')
  assert.equal((await locks.inspectLock()).state, 'free')
  assert.equal(await locks.breakLock(), false)

  await superuser(sql, 'strict')
  assert.equal((await rejection(locks.acquireLock())).code, '42501')
  await superuser('GRANT SELECT, INSERT, UPDATE ON reconcile_lock TO clerk', 'strict')
  const lock = await locks.acquireLock()
  assert.equal((await locks.inspectLock()).state, 'held')
  await lock.release()
})

test('breakLock with force needs the right to end sessions', async (t) => {
  await superuser(`CREATE ROLE meek LOGIN PASSWORD 'meek'`)
  const lock = await locksOf(t).acquireLock('forced')
  await superuser('ALTER TABLE reconcile_lock OWNER TO postgres')
  await superuser(`GRANT SELECT, INSERT, UPDATE ON reconcile_lock TO meek, ${USER}`)
  const meek = locksOf(t, { connectionString: postgres.url('ledger', 'meek') })
  assert.equal((await rejection(meek.breakLock({ name: 'forced', force: true }))).code, '42501')
  assert.equal((await meek.inspectLock('forced')).holder?.pid, process.pid, 'but it reads the holder')
  assert.equal(lock.isHeld(), true)
  await lock.release()
})

test('takenOver escapes text that another role wrote', async (t) => {
  const locks = locksOf(t)
  await (await locks.acquireLock('written')).release()
  await postgres.sql(
    "UPDATE reconcile_lock SET host = E'\\x1b[2J' || repeat('x', 9999), released_at = NULL WHERE name = 'written'",
  )
  const lock = await locks.acquireLock('written')
  const { holder, reason } = lock.takenOver ?? {}
  assert.match(holder?.host ?? '', /^\\u\{1b\}\[2Jx+…$/)
  assert.match(reason ?? '', /^process \d+ on \\u\{1b\}\[2Jx{1,255}… ended/)
  await lock.release()
})

test('schema selects the table, and a missing one is refused', async (t) => {
  await postgres.sql('CREATE SCHEMA "o""dd"')
  const locks = locksOf(t, { connectionString: postgres.url(), schema: 'o"dd' })
  await (await locks.acquireLock('there')).release()
  assert.equal((await postgres.sql('SELECT name FROM "o""dd".reconcile_lock'))[0]?.name, 'there')
  const missing = locksOf(t, { connectionString: postgres.url(), schema: 'missing' })
  const error = await rejection(missing.acquireLock())
  assert.equal(error.code, 'E_LOCK_TABLE')
  assert.ok(error.message.includes(tableSql('missing').trim()))
})

test('concurrent calls create the table without an error', async (t) => {
  await superuser('DROP TABLE IF EXISTS reconcile_lock')
  const locks = Array.from({ length: 20 }, () => locksOf(t))
  await Promise.all(locks.map(async (each, index) => (await each.acquireLock(`n${index}`)).release()))
})

test('a table dropped under an idle session is created again', async (t) => {
  const locks = locksOf(t)
  const drop = () => superuser('DROP TABLE reconcile_lock')
  await (await locks.acquireLock('dropped')).release()
  await drop()
  await (await locks.acquireLock('dropped')).release()
  await drop()
  assert.equal((await locks.inspectLock('dropped')).state, 'free')
  await (await locks.acquireLock('dropped')).release()
  await drop()
  await (await locks.acquireLock({ name: 'dropped', shared: true })).release()
})

test('a name with the key of another name is refused', async (t) => {
  const locks = locksOf(t)
  await (await locks.acquireLock('first')).release()
  await postgres.sql(
    `INSERT INTO reconcile_lock SELECT 'twin', ${lockKey('collides')}, token, pid, thread, host, application, backend,
      acquired_at, released_at FROM reconcile_lock WHERE name = 'first'`,
  )
  for (let round = 0; round < 2; round += 1) {
    const error = await rejection(locks.acquireLock('collides'))
    assert.ok(error instanceof LockError)
    assert.equal(error.code, 'E_LOCK_COLLISION')
  }
})

test('advisory locks of other programs are distinguished', async (t) => {
  const locks = locksOf(t)
  const client = new pg.Client({ connectionString: postgres.url() })
  await client.connect()
  t.after(() => client.end())
  const bits = BigInt.asUintN(64, lockKey('pair'))
  const halves = [BigInt.asIntN(32, bits >> 32n), BigInt.asIntN(32, bits)]
  await client.query('SELECT pg_advisory_lock($1::int, $2::int)', halves)
  assert.equal((await locks.inspectLock('pair')).state, 'free')
  const lock = await locks.acquireLock('pair')
  assert.equal((await locks.inspectLock('pair')).holder?.pid, process.pid)
  await lock.release()
  const dead = await locks.acquireLock('theirs')
  await superuser(`SELECT pg_terminate_backend(backend) FROM reconcile_lock WHERE name = 'theirs'`)
  await rejection(dead.release())
  await client.query('SELECT pg_advisory_lock($1)', [lockKey('theirs')])
  const { code, holder, reason } = await rejection(locks.acquireLock('theirs'))
  assert.deepEqual([code, holder], ['E_LOCK_CONTENTION', undefined])
  assert.match(
    String(reason),
    /^process \d+ of the server holds it, and no row of the table names its holder$/,
  )
  assert.equal((await locks.inspectLock('theirs')).state, 'held')
})

test('inspectLock escapes control characters from the table', async (t) => {
  const locks = locksOf(t)
  const lock = await locks.acquireLock('hostile')
  await postgres.sql(
    `UPDATE reconcile_lock SET host = E'\\x1b[2J\\n\\u202eevil' || repeat('x', 1000) WHERE name = 'hostile'`,
  )
  const { holder, reason } = await locks.inspectLock('hostile')
  assert.match(holder?.host ?? '', /^\\u\{1b\}\[2J\\u\{a\}\\u\{202e\}evilx+…$/)
  assert.equal(holder?.host?.length, 256)
  assert.doesNotMatch(reason, /[^ -~…]/)
  await lock.release()
})

test('lockKey is the documented hash, also in SQL', async () => {
  for (const name of ['reconcile', 'ü', "it's"]) {
    const bytes = createHash('sha256').update(`reconcile-lock:${name}`).digest()
    assert.equal(lockKey(name), bytes.readBigInt64BE())
    const text = `reconcile-lock:${name}`.replaceAll("'", "''")
    const [row] = await postgres.sql<{ key: string }>(
      `SELECT ('x' || left(encode(sha256(convert_to('${text}', 'UTF8')), 'hex'), 16))::bit(64)::bigint AS key`,
    )
    assert.equal(row?.key, String(lockKey(name)))
  }
})

test('settings of the role do not affect locks', async (t) => {
  await superuser(`CREATE ROLE odd LOGIN PASSWORD 'odd'`)
  await superuser('CREATE DATABASE odd OWNER odd')
  const newer = [
    [14, `idle_session_timeout = '1s'`],
    [17, `transaction_timeout = '1s'`],
  ] as const
  for (const setting of [
    ...newer.filter(([since]) => postgres.version >= since).map(([, setting]) => setting),
    `statement_timeout = '1s'`,
    `lock_timeout = '1s'`,
    `idle_in_transaction_session_timeout = '1s'`,
    `default_transaction_isolation = 'serializable'`,
    'default_transaction_read_only = on',
    'synchronous_commit = off',
    `DateStyle = 'German'`,
    `TimeZone = 'Asia/Kolkata'`,
    `bytea_output = 'escape'`,
    'extra_float_digits = 0',
    'search_path = "$user", public, pg_catalog',
  ])
    await superuser(`ALTER ROLE odd SET ${setting}`)
  const connectionString = postgres.url('odd', 'odd')
  const clients: pg.Client[] = []
  const connect = () => {
    const client = new pg.Client({ connectionString })
    clients.push(client)
    return client
  }
  const [locks, others] = [locksOf(t, { connect }), locksOf(t, { connectionString })]
  const before = Date.now()
  const lock = await locks.acquireLock()
  assert.deepEqual((await clients[0]?.query('SHOW synchronous_commit'))?.rows, [
    { synchronous_commit: 'local' },
  ])
  assert.ok(Math.abs(lock.holder.createdAt - before) < 60_000)
  const waiting = others.acquireLock({ timeout: 5000 })
  await sleep(1200, 'the timeouts of the role pass')
  assert.equal(lock.isHeld(), true)
  await lock.release()
  const next = await waiting
  assert.ok(next.token > lock.token)
  await next.release()
  // Serializable transactions on such a small table would abort each other.
  const many = Array.from({ length: 8 }, async (_, index) => {
    for (let round = 0; round < 30; round += 1) await (await locks.acquireLock(`odd ${index}`)).release()
  })
  await Promise.all(many)
})

test('the session has the documented TCP settings', async (t) => {
  let client: pg.Client | undefined
  const asked: unknown[][] = []
  class Watched extends Socket {
    override setKeepAlive(...args: [boolean, number]): this {
      asked.push(args)
      return super.setKeepAlive(...args)
    }
  }
  const connect = () => {
    const config = { connectionString: postgres.url(), application_name: 'the ledger' }
    client = new pg.Client({ ...config, stream: () => new Watched() as never })
    return client
  }
  const lock = await locksOf(t, { connect, sessionTimeout: 20_000 }).acquireLock('set')
  assert.equal(lock.holder.application, 'the ledger')
  const { rows } = await (client as unknown as pg.Client).query(`SELECT name, setting FROM pg_settings
    WHERE name LIKE 'tcp_%' ORDER BY name`)
  assert.deepEqual(Object.fromEntries(rows.map(({ name, setting }) => [name, setting])), {
    tcp_keepalives_count: '5',
    tcp_keepalives_idle: '10',
    tcp_keepalives_interval: '2',
    tcp_user_timeout: '20000',
  })
  assert.deepEqual(asked, [[true, 10_000]])
  await lock.release()
})

test('type parsers of the program do not affect locks', async (t) => {
  const oids = [16, 20, 114, 1184]
  const parsers = oids.map((oid) => pg.types.getTypeParser(oid))
  t.after(() => oids.forEach((oid, index) => void pg.types.setTypeParser(oid, parsers[index] as never)))
  for (const oid of oids) pg.types.setTypeParser(oid, () => 'parsed by the program')
  const locks = locksOf(t)
  const lock = await locks.acquireLock('types')
  assert.equal(typeof lock.token, 'bigint')
  assert.equal((await rejection(locks.acquireLock('types'))).code, 'E_LOCK_CONTENTION')
  await lock.release()
})

test('connect may be asynchronous, and its error rejects the call', async (t) => {
  const connect = async () => new pg.Client({ connectionString: postgres.url() })
  await (await locksOf(t, { connect }).acquireLock('async')).release()
  const failure = new Error('no credentials')
  const failing = async () => {
    throw failure
  }
  assert.equal(await rejection(locksOf(t, { connect: failing }).acquireLock()), failure)
})

/** A project with the package, without the addon, and with `packages`. */
function project(t: TestContext, packages: string[]): string {
  const home = directory(t)
  const dependencies = Object.fromEntries(['reconcile-lock', ...packages].map((name) => [name, '*']))
  writeFileSync(join(home, 'package.json'), JSON.stringify({ dependencies }))
  const installed = join(home, 'node_modules/reconcile-lock')
  mkdirSync(installed, { recursive: true })
  for (const part of ['package.json', 'dist', 'index.d.ts', 'postgres.d.ts', 'postgres'])
    cpSync(join(root, part), join(installed, part), { recursive: true })
  for (const name of packages) symlinkSync(join(root, 'node_modules', name), join(home, 'node_modules', name))
  return home
}

test('without pg the error names the package to install', async (t) => {
  const home = project(t, [])
  writeFileSync(
    join(home, 'app.mjs'),
    `import { LockError, postgresLocks } from 'reconcile-lock/postgres'
    const error = await postgresLocks({ connectionString: 'postgres://x' }).acquireLock().catch((error) => error)
    console.log(error instanceof LockError, error.code, error.message)`,
  )
  const said = execFileSync(process.execPath, ['app.mjs'], { cwd: home, encoding: 'utf8' })
  assert.match(said, /^true E_LOCK_DRIVER .*npm install pg\n$/)
})

test('PostgreSQL locks load no addon, file locks no pg', async (t) => {
  const home = project(t, ['pg'])
  writeFileSync(
    join(home, 'app.cjs'),
    `const { postgresLocks } = require('reconcile-lock/postgres')
    const loaded = (word) => Object.keys(require.cache).filter((path) => path.includes(word)).length
    const before = loaded('/pg/')
    const locks = postgresLocks({ connectionString: ${JSON.stringify(postgres.url())} })
    locks.acquireLock('without').then(async (lock) => {
      console.log(before, loaded('/pg/') > 0, loaded('.node'), loaded('reconcile-lock/dist/index'), lock.isHeld())
      await lock.release()
    })`,
  )
  const run = (args: string[], cwd: string) => execFileSync(process.execPath, args, { cwd, encoding: 'utf8' })
  assert.equal(run(['app.cjs'], home), '0 true 0 0 true\n')
  const main = `require('reconcile-lock')
    console.log(Object.keys(require.cache).filter((path) => /node_modules.pg.|dist.postgres/.test(path)).length)`
  assert.equal(run(['-e', main], import.meta.dirname), '0\n')
})
