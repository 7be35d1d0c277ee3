// The command line with --postgres, on a real server.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { postgresLocks, tableSql } from 'reconcile-lock/postgres'
import { send } from '../support/child.mjs'
import { bin, cli, exists, Listener, Running, read, shell } from '../support/cli.mjs'
import { directory, MESSAGE } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { freePort } from '../support/port.mjs'
import { until } from '../support/time.mjs'
import { Database } from './database.mjs'
import { PASSWORD, type Postgres, USER } from './postgres.mjs'

const root = join(bin, '../..')

let database: Database
let postgres: Postgres
before(async () => {
  database = await Database.start()
  postgres = database.postgres
})
after(() => postgres.stop())

const on = (t: TestContext, ...args: string[]) => database.words(t, ...args)

/** Ends the session of the holder, as an administrator may. */
async function terminates(t: TestContext): Promise<void> {
  const holder = `SELECT pg_terminate_backend(backend) FROM reconcile_lock WHERE name = '${t.name}'`
  await postgres.sql(holder, 'ledger', 'postgres')
}

/** Leaves the stale lock of a process that it kills; returns its PID. */
async function leaves(t: TestContext): Promise<number | undefined> {
  const cwd = directory(t)
  const killed = new Running(t, cwd, on(t, 'run', '--', 'sh', '-c', 'echo $$ > pid; exec sleep 60'))
  await until(() => Number(read(join(cwd, 'pid'))) > 0, 'the command runs')
  killed.child.kill('SIGKILL')
  process.kill(Number(read(join(cwd, 'pid'))), 'SIGKILL')
  await until(async () => (await database.state(t)) === 'stale', 'the lock is stale')
  return killed.child.pid
}

test('run passes the exit status and streams of its command', (t) => {
  const url = ['--postgres', postgres.url()]
  const inner = `read line; echo "$line"; echo to stderr >&2; ${shell(['status', ...url])}; exit 7`
  const cwd = directory(t)
  const { code, stdout, stderr } = cli(cwd, ['run', ...url, '--', 'sh', '-c', inner], 'from stdin\n')
  assert.equal(code, 7)
  const said = `from stdin\n${database.pathOf('reconcile')}: held: process `
  assert.equal(stdout.slice(0, said.length), said)
  assert.equal(stderr, 'to stderr\n')
  assert.equal(
    cli(cwd, ['status', ...url]).stdout,
    `${database.pathOf('reconcile')}: free: no session holds the lock\n`,
  )
  assert.equal(existsSync(join(cwd, '.xero-reconcile-lock.json')), false)
})

test('RECONCILE_LOCK_TOKEN grows, and is unset with a lock file', (t) => {
  const cwd = directory(t)
  const print = ['run', '--', 'sh', '-c', 'printenv RECONCILE_LOCK_TOKEN || echo none']
  const [first, second] = [0, 1].map(() => cli(cwd, on(t, ...print)).stdout.trim())
  assert.match(first ?? '', /^\d+$/)
  assert.ok(BigInt(second ?? '') > BigInt(first ?? ''))
  assert.equal(JSON.parse(cli(cwd, on(t, 'status', '--json')).stdout).token, second)
  assert.equal(cli(cwd, print).stdout, 'none\n')
})

test('status --watch prints a line for each change', async (t) => {
  const cwd = directory(t)
  const watching = new Running(t, cwd, on(t, 'status', '--watch', '--json'))
  const lines = () => watching.stdout.split('\n').slice(0, -1)
  const count = (wanted: number) => until(() => lines().length >= wanted, `${wanted} lines`)
  await count(1)
  const lock = await database.acquire(t)
  await count(2)
  await lock.release()
  await count(3)
  watching.child.kill('SIGINT')
  assert.equal((await watching.ends()).signal, 'SIGINT')
  assert.deepEqual(
    lines().map((line) => JSON.parse(line).state),
    ['free', 'held', 'free'],
  )
})

test('run exits 75 and names the holder if contended', async (t) => {
  const cwd = directory(t)
  const lock = await database.acquire(t)
  const run = ['run', '--', 'touch', 'ran']
  const { stderr, ...refused } = cli(cwd, on(t, ...run))
  assert.deepEqual(refused, { code: 75, signal: null, stdout: '' })
  const [first, second] = stderr.split('\n')
  assert.equal(first, MESSAGE)
  const by = `reconcile-lock: ${lock.path} is held by process ${process.pid} on ${lock.holder.host} for `
  assert.ok(second?.startsWith(by), second)
  assert.match(cli(cwd, on(t, '--message', 'Nicht jetzt', ...run)).stderr, /^Nicht jetzt\n/)
  assert.equal(existsSync(join(cwd, 'ran')), false)
  assert.equal(cli(cwd, ['--postgres', postgres.url(), '--name', 'another', ...run]).code, 0)
  assert.equal(existsSync(join(cwd, 'ran')), true)
  await lock.release()
})

test('run --wait waits and prints nothing on a pipe', async (t) => {
  const cwd = directory(t)
  const lock = await database.acquire(t)
  const started = performance.now()
  assert.equal(cli(cwd, on(t, 'run', '--wait', '.3', '--', 'true')).code, 75)
  assert.ok(performance.now() - started >= 300)
  const waiting = new Running(t, cwd, on(t, 'run', '--wait', 'forever', '--', 'echo', 'ran'))
  await postgres.queues(1)
  await lock.release()
  assert.deepEqual(await waiting.ends(), { code: 0, signal: null, stdout: 'ran\n', stderr: '' })
})

test('status reports free, held and stale, also as JSON', async (t) => {
  const cwd = directory(t)
  const status = (...args: string[]) => cli(cwd, on(t, 'status', ...args))
  assert.deepEqual(JSON.parse(status('--json').stdout), await database.locks(t).inspectLock(t.name))
  const lock = await database.acquire(t)
  const { code, stdout } = status('--json')
  assert.equal(code, 1)
  const inspected = await database.locks(t).inspectLock(t.name)
  assert.deepEqual(JSON.parse(stdout), { ...inspected, token: String(lock.token) })
  assert.equal(stdout.trim().split('\n').length, 1)
  assert.equal(status().stdout, `${database.pathOf(t.name)}: held: ${inspected.reason}\n`)
  await lock.release()
  const pid = await leaves(t)
  const gone = `process ${pid} ended without releasing, or lost its connection`
  const stale = { code: 2, signal: null, stdout: `${database.pathOf(t.name)}: stale: ${gone}\n`, stderr: '' }
  for (const _ of ['status', 'changes', 'nothing']) assert.deepEqual(status(), stale)
})

test('run reports a take-over on standard error', async (t) => {
  const pid = await leaves(t)
  const { code, stderr } = cli(directory(t), on(t, 'run', '--', 'true'))
  assert.equal(code, 0)
  assert.match(
    stderr,
    new RegExp(
      `^reconcile-lock: took over the stale lock \\S+ of process ${pid} on \\S+, acquired \\d+ s ago: .+\n$`,
    ),
  )
})

test('break removes a stale lock, a held one with --force', async (t) => {
  const cwd = directory(t)
  await leaves(t)
  const broken = cli(cwd, on(t, 'break'))
  assert.deepEqual(broken, {
    code: 0,
    signal: null,
    stdout: `${database.pathOf(t.name)}: removed\n`,
    stderr: '',
  })
  assert.equal(cli(cwd, on(t, 'break')).stdout, `${database.pathOf(t.name)}: there is no lock\n`)
  const lock = await database.acquire(t)
  const refused = cli(cwd, on(t, 'break'))
  assert.equal(refused.code, 75)
  assert.match(
    refused.stderr,
    new RegExp(
      `^${MESSAGE}\nreconcile-lock: \\S+ was not removed: process ${process.pid} on .* held .*; --force ends the session`,
    ),
  )
  assert.equal(await database.state(t), 'held')
  assert.equal(cli(cwd, on(t, 'break', '--force')).code, 0)
  await assert.rejects(lock.release(), { code: 'E_LOCK_LOST' })
})

test('break suggests --force only if that removes the lock', async (t) => {
  const cwd = directory(t)
  const reader = await database.locks(t).acquireLock({ name: t.name, shared: true })
  for (const force of [[], ['--force']]) {
    const { code, stderr } = cli(cwd, on(t, 'break', ...force))
    assert.equal(code, 75)
    assert.match(stderr, / was not removed: process \d+ of the server .* holds it in shared mode/)
    assert.ok(!stderr.includes('--force removes it'), stderr)
  }
  await reader.release()
})

test('run sends SIGTERM after a lost lock and exits 74', async (t) => {
  const cwd = directory(t)
  const listener = new Listener(cwd, ['SIGTERM'])
  const running = new Running(t, cwd, on(t, 'run', '--', ...listener.command))
  await listener.pid()
  await terminates(t)
  await listener.receives('SIGTERM')
  await until(
    () => /sending SIGTERM to process \d+\n$/.test(running.stderr),
    'the loss is reported while the command runs',
  )
  const reported = running.stderr
  assert.match(reported, /^reconcile-lock: lost the lock .+\n.+ another process may .+\n$/)
  assert.ok(reported.includes(database.pathOf(t.name)))
  writeFileSync(join(cwd, 'end'), '')
  assert.deepEqual(await running.ends(), { code: 74, signal: null, stdout: '', stderr: reported })
})

test('run exits 74 if a lost lock kills the command', async (t) => {
  const cwd = directory(t)
  const running = new Running(t, cwd, on(t, 'run', '--', 'sh', '-c', 'touch ready; exec sleep 60'))
  await until(exists(join(cwd, 'ready')), 'the command runs')
  await terminates(t)
  const { code, signal } = await running.ends()
  assert.deepEqual([code, signal], [74, null])
})

test('run sends SIGKILL to descendants that ignore SIGTERM', async (t) => {
  const cwd = directory(t)
  const stubborn = `trap '' TERM; echo $$ > pid.tmp; mv pid.tmp pid; while :; do sleep 1; done`
  const command = ['sh', '-c', `sh -c "$0" & exec sleep 60`, stubborn]
  const running = new Running(t, cwd, on(t, 'run', '--kill-after', '0.3', '--', ...command))
  const pid = Number(await until(() => exists(join(cwd, 'pid'))() && readFileSync(join(cwd, 'pid'), 'utf8')))
  await terminates(t)
  const { code, stderr } = await running.ends()
  assert.equal(code, 74)
  // A slow machine also reports that it waits for the process group, before or after the SIGKILL.
  const sent = stderr.replace(/.* waiting for its process group \d+\n/, '')
  assert.match(sent, /\n.* sending SIGTERM to process \d+\n.* sending SIGKILL\n$/)
  await until(() => !exists(`/proc/${pid}/exe`)(), 'it has ended')
})

test('run exits 74 if the release finds the lock lost', async (t) => {
  const cwd = directory(t)
  cli(cwd, on(t, 'run', '--', 'true'))
  const mine = `name = '${t.name}'`
  for (const statement of [
    `CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql
      AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END'`,
    `CREATE TRIGGER lose BEFORE UPDATE ON reconcile_lock FOR EACH ROW
      WHEN (NEW.${mine} AND NEW.released_at IS NOT NULL) EXECUTE FUNCTION lose()`,
  ])
    await postgres.sql(statement)
  const { code, stderr } = cli(cwd, on(t, 'run', '--', 'true'))
  assert.equal(code, 74)
  assert.match(stderr, /^reconcile-lock: lost the lock .+\n$/, 'one line')
  for (const end of ['exit 3', 'kill -TERM $$', 'kill -SEGV $$'])
    assert.equal(cli(cwd, on(t, 'run', '--', 'sh', '-c', end)).code, 74, end)
})

for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const) {
  test(`${signal} while waiting leaves the queue without the lock`, async (t) => {
    const cwd = directory(t)
    const lock = await database.acquire(t)
    const waiting = new Running(t, cwd, on(t, 'run', '--wait', 'forever', '--', 'touch', 'ran'))
    await postgres.queues(1)
    send(waiting.child, signal)
    const ended = await waiting.ends()
    // Ending by SIGQUIT would write a core file.
    assert.deepEqual([ended.code, ended.signal], [null, signal])
    assert.equal(ended.stderr, '')
    await postgres.queues(0)
    await lock.release()
    assert.equal(await database.state(t), 'free')
    assert.equal(existsSync(join(cwd, 'ran')), false)
  })
}

test(
  'run works in a pipeline and ignores a closed reader',
  knownFailure({ runtime: 'deno', why: 'Deno started by a shell has no permissions' }, (t) => {
    const cwd = directory(t)
    const sh = (line: string) =>
      spawnSync('bash', ['-c', `set -o pipefail; ${line}`], { cwd, encoding: 'utf8' })
    const piped = sh(`printf 'b\\na\\n' | ${shell(on(t, 'run', '--', 'sort'))} | tr a-z A-Z`)
    assert.deepEqual([piped.status, piped.stdout], [0, 'A\nB\n'])
    for (const args of [['sql'], on(t, 'status', '--json')]) {
      // The reader ends before the first write.
      const { stderr } = sh(`{ sleep 0.3; ${shell(args)}; } | true`)
      assert.equal(stderr, '')
    }
  }),
)

test('run exits 127 or 126 if the command cannot start', async (t) => {
  const cwd = directory(t)
  assert.equal(cli(cwd, on(t, 'run', '--', 'no-such-command')).code, 127)
  assert.equal(cli(cwd, on(t, 'run', '--', './')).code, 126)
  assert.equal(cli(cwd, on(t, 'run', '--', 'sh', '-c', 'kill -USR2 $$')).signal, 'SIGUSR2')
  assert.equal(await database.state(t), 'free')
})

test('server and network errors exit 73 without a password', async (t) => {
  const cwd = directory(t)
  await postgres.sql('CREATE ROLE guest LOGIN PASSWORD $$guest$$', 'postgres', 'postgres')
  const closed = await freePort()
  for (const [url, reason] of [
    [postgres.url('ledger', USER, 'wrong-secret'), /password authentication failed for user "keeper"/],
    [postgres.url('none'), /database "none" does not exist/],
    [postgres.url('ledger', USER, 'wrong-secret', closed), /ECONNREFUSED 127\.0\.0\.1:\d+/],
    ['postgres://no-such-host.invalid/ledger', /(ENOTFOUND|EAI_AGAIN) no-such-host\.invalid/],
    [postgres.url('ledger', 'nobody'), /password authentication failed for user "nobody"/],
  ] as const)
    for (const command of [['run', '--', 'true'], ['status'], ['break']]) {
      const { code, stdout, stderr } = cli(cwd, ['--postgres', url, ...command])
      assert.deepEqual([code, stdout], [73, ''], stderr)
      assert.match(stderr, new RegExp(`^reconcile-lock: .*${reason.source}.*\n$`))
      assert.doesNotMatch(stderr, /secret/)
    }
  const { code, stderr } = cli(cwd, ['--postgres', postgres.url('ledger', 'guest'), 'run', '--', 'true'])
  assert.equal(code, 73)
  assert.match(stderr, /^reconcile-lock: .*reconcile_lock.*\n/, 'the table is another role’s')
})

/** Runs a program without the PG* variables of this process. */
function within(cwd: string, words: string[], more: NodeJS.ProcessEnv = {}) {
  const entries = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'))
  const env = { ...Object.fromEntries(entries), PGPASSFILE: join(cwd, 'pgpass'), ...more }
  return spawnSync(process.execPath, words, { cwd, env, encoding: 'utf8' })
}

test('a password comes from the environment or a password file', (t) => {
  const cwd = directory(t)
  const status = [bin, 'status', '--postgres', `postgres://127.0.0.1:${postgres.port}/ledger`]
  const missing = within(cwd, status, { PGUSER: USER })
  assert.equal(missing.status, 73)
  assert.match(missing.stderr, /^reconcile-lock: the server asks for a password, .*PGPASSWORD.*\n$/)
  assert.equal(within(cwd, status, { PGUSER: USER, PGPASSWORD: PASSWORD }).status, 0)
  const escaped = PASSWORD.replaceAll(':', '\\:')
  writeFileSync(join(cwd, 'pgpass'), `*:*:*:${USER}:${escaped}\n`, { mode: 0o600 })
  assert.equal(within(cwd, status, { PGUSER: USER }).status, 0)
  const all = { PGHOST: '127.0.0.1', PGPORT: String(postgres.port), PGDATABASE: 'ledger', PGUSER: USER }
  assert.equal(within(cwd, [bin, 'status', '--postgres', 'postgres://'], all).status, 0)
})

test('every command closes its session', async (t) => {
  await postgres.sql('CREATE DATABASE polite OWNER keeper', 'postgres', 'postgres')
  const url = postgres.url('polite')
  const cwd = directory(t)
  const locks = postgresLocks({ connectionString: url })
  const lock = await locks.acquireLock()
  for (const command of [['run', '--', 'true'], ['status'], ['break']])
    assert.notEqual(cli(cwd, ['--postgres', url, ...command]).code, 0)
  await lock.release()
  await locks.close()
  const dies = cli(cwd, ['--postgres', url, 'run', '--', 'sh', '-c', 'kill -TERM $$'])
  assert.equal(dies.signal, 'SIGTERM')
  const open = `SELECT FROM pg_stat_activity WHERE datname = 'polite'`
  await until(async () => (await postgres.sql(open, 'postgres', 'postgres')).length === 0, 'all are closed')
  if (postgres.version < 14) return t.skip('PostgreSQL 13 does not count sessions')
  const count = `SELECT sessions::int, sessions_abandoned::int AS abandoned FROM pg_stat_database WHERE datname = 'polite'`
  type Row = { sessions: number; abandoned: number }
  const counted = async () => (await postgres.sql<Row>(count, 'postgres', 'postgres'))[0]
  // Sessions are counted a moment after they have ended.
  await until(async () => ((await counted())?.sessions ?? 0) >= 5, 'five sessions are counted')
  assert.equal((await counted())?.abandoned, 0)
})

test('sql prints the statement that creates the table', async (t) => {
  const printed = cli(directory(t), ['sql'])
  assert.deepEqual(printed, { code: 0, signal: null, stdout: tableSql(), stderr: '' })
  await postgres.sql('CREATE DATABASE empty', 'postgres', 'postgres')
  await postgres.sql(printed.stdout, 'empty', 'postgres')
  assert.equal((await postgres.sql('SELECT * FROM reconcile_lock', 'empty', 'postgres')).length, 0)
})

/** The files that the program has loaded when it exits. */
function loaded(t: TestContext, args: string[]): string {
  const cwd = directory(t)
  const hook = `process.on('exit', () =>
    require('node:fs').writeFileSync('loaded', Object.keys(require.cache).join('\\n')))`
  writeFileSync(join(cwd, 'hook.cjs'), hook)
  within(cwd, ['--require', join(cwd, 'hook.cjs'), bin, ...args])
  return readFileSync(join(cwd, 'loaded'), 'utf8')
}

test(
  'each kind of lock loads only its own modules',
  knownFailure({ runtime: 'deno', why: 'Deno has no --require' }, (t) => {
    const native = /\.node$/m
    const database = /node_modules.pg\b|dist.postgres/m
    const file = loaded(t, ['status'])
    assert.match(file, native)
    assert.doesNotMatch(file, database)
    const table = loaded(t, on(t, 'status'))
    assert.match(table, database)
    assert.doesNotMatch(table, native)
    for (const args of [['--help'], ['walk'], ['sql']]) assert.doesNotMatch(loaded(t, args), native)
  }),
)

test('a PostgreSQL lock needs pg and no native binary', (t) => {
  const cwd = directory(t)
  const home = join(cwd, 'node_modules/reconcile-lock')
  for (const name of ['bin', 'dist', 'package.json'])
    cpSync(join(root, name), join(home, name), { recursive: true })
  const program = join(home, 'bin/reconcile-lock.js')
  const run = on(t, 'run', '--', 'echo', 'ran')
  const missing = within(cwd, [program, ...run])
  assert.deepEqual([missing.status, missing.stdout], [73, ''])
  assert.match(missing.stderr, /^reconcile-lock: .* npm install pg\n$/)
  mkdirSync(join(cwd, 'node_modules'), { recursive: true })
  symlinkSync(join(root, 'node_modules/pg'), join(cwd, 'node_modules/pg'))
  const ran = within(cwd, [program, ...run])
  assert.deepEqual([ran.status, ran.stdout, ran.stderr], [0, 'ran\n', ''])
  const native = within(cwd, [program, 'status'])
  assert.equal(native.status, 73)
  assert.match(native.stderr, /^reconcile-lock has no native binary that works here/)
})

const wrong: [args: string[], hint: RegExp][] = [
  [['status', '--name', 'n'], /--name needs --postgres/],
  [['status', '--postgres', 'postgres://h/d', '--file', 'f'], /--file does not go with --postgres/],
  [['status', '--postgres', 'postgres://h/d', '--name', ''], /--name needs the name/],
  [['status', '--postgres', 'postgres://h/d', '--name', 'n'.repeat(256)], /longer than 255 characters/],
  [['status', '--postgres', ''], /--postgres needs a URL/],
  [['status', '--postgres', 'keeper:secret@h/d'], /--postgres needs a URL/],
  [['status', '--postgres', 'mysql://keeper:secret@h/d'], /--postgres needs a URL/],
  [['status', '--postgres', 'postgres://keeper:secret@[/d'], /not a URL that pg can read/],
  [['status', '--postgres', 'postgres://keeper:secret@h/%'], /not a URL that pg can read/],
  [['break', '--postgres', 'postgres://keeper:secret@h:99999/d'], /not a URL that pg can read/],
  [['run', '--postgres', 'postgres://keeper:secret@h/%', '--', 'true'], /not a URL that pg can read/],
  [['status', '--postgres', 'postgres://keeper:secret@h/d?port=99999'], /port .* is not between 0 and 65535/],
  [['status', '--postgres'], /postgres/],
  [['sql', '--postgres', 'postgres://h/d'], /sql does not accept --postgres/],
  [['sql', 'now'], /sql: unexpected argument "now"/],
  [['sql', '--', 'true'], /sql does not run a command/],
]
for (const [args, hint] of wrong)
  test(`usage error: ${args.join(' ').slice(0, 80)}`, (t) => {
    const { code, stdout, stderr } = cli(directory(t), args)
    assert.deepEqual([code, stdout], [64, ''], stderr)
    assert.match(stderr, hint)
    assert.match(stderr, /--help shows the usage\n$/)
    assert.doesNotMatch(stderr, /secret/)
  })
