import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { acquireLockSync, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { exitCodes } from '../../lib/cli/exit-codes.js'
import { bin, cli, Running, read, shell, waits } from '../support/cli.mjs'
import { deadPid, directory, leave, MESSAGE } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { longerCommandLine } from '../support/qemu.mjs'
import { until } from '../support/time.mjs'

const { version } = JSON.parse(readFileSync(join(bin, '../../package.json'), 'utf8'))

test('run holds the lock and passes on status and streams', (t) => {
  const cwd = directory(t)
  const inner = `read line; echo "$line"; echo to stderr >&2; ${shell(['status'])}; exit 7`
  const { code, stdout, stderr } = cli(cwd, ['run', '--', 'sh', '-c', inner], 'from stdin\n')
  assert.equal(code, 7)
  assert.match(stdout, /^from stdin\n.*: held for \d+ s by process \d+ \(.*\), user \S+, on \S+\n$/)
  assert.equal(stderr, 'to stderr\n')
  assert.equal(inspectLockSync(cwd).state, 'free')
})

test('run passes the arguments of the command unchanged', (t) => {
  const cwd = directory(t)
  const script = join(cwd, 'arguments.cjs')
  writeFileSync(script, 'console.log(JSON.stringify(process.argv.slice(2)))')
  const args = ['--help', '--', '-x', '', 'a b', '*', '$HOME']
  const { stdout } = cli(cwd, ['run', '--', process.execPath, script, ...args])
  assert.deepEqual(JSON.parse(stdout), args)
})

test('run ignores extensions of Object.prototype', async (t) => {
  const cwd = directory(t)
  writeFileSync(join(cwd, 'extend.cjs'), "Object.prototype.extension = 'x'")
  const within = ['env', `NODE_OPTIONS=--require=${join(cwd, 'extend.cjs')}`]
  const run = new Running(t, cwd, ['run', '--', 'sh', '-c', 'exit 7'], within)
  assert.deepEqual(await run.ends(), { code: 7, signal: null, stdout: '', stderr: '' })
})

test('run exits 75 and names the holder if contended', (t) => {
  const cwd = directory(t)
  const lock = acquireLockSync(cwd)
  const { stderr, ...refused } = cli(cwd, ['run', '--', 'touch', 'ran'])
  assert.deepEqual(refused, { code: 75, signal: null, stdout: '' })
  const holder = `reconcile-lock: ${lock.path} is held by process ${process.pid} on ${lock.holder.host} for \\d+ s\n`
  assert.match(stderr, new RegExp(`^${MESSAGE}\n${holder}$`))
  const other = cli(cwd, ['run', '--message', 'Nicht jetzt', '--', 'touch', 'ran'])
  assert.match(other.stderr, new RegExp(`^Nicht jetzt\n${holder}$`))
  assert.equal(existsSync(join(cwd, 'ran')), false)
  assert.equal(cli(cwd, ['run', '--file', 'other', '--', 'touch', 'ran']).code, 0)
  assert.equal(existsSync(join(cwd, 'ran')), true)
  lock.releaseSync()
})

test('--wait waits for the holder without output on a pipe', async (t) => {
  const cwd = directory(t)
  const lock = acquireLockSync(cwd)
  const started = performance.now()
  assert.equal(cli(cwd, ['run', '--wait', '.3', '--', 'true']).code, 75)
  assert.ok(performance.now() - started >= 300)
  const waiting = new Running(t, cwd, ['run', '--wait', 'forever', '--', 'echo', 'ran'])
  await until(() => waits(waiting.child.pid), 'run waits')
  lock.releaseSync()
  assert.deepEqual(await waiting.ends(), { code: 0, signal: null, stdout: 'ran\n', stderr: '' })
})

test(
  'status reports free, held and stale, also as JSON',
  knownFailure(longerCommandLine, (t) => {
    const cwd = directory(t)
    const path = resolveLockPath(cwd)
    const status = (...args: string[]) => cli(cwd, ['status', ...args])
    assert.deepEqual([status().code, status().stdout], [0, `${path}: free: ${inspectLockSync(cwd).reason}\n`])
    const lock = acquireLockSync(cwd)
    assert.equal(status().code, 1)
    const { code, stdout } = status('--json')
    assert.equal(code, 1)
    assert.deepEqual(JSON.parse(stdout), inspectLockSync(cwd))
    assert.equal(stdout.trim().split('\n').length, 1)
    assert.equal(status('--file', 'other').code, 0)
    lock.releaseSync()
    leave(cwd, { pid: deadPid(), createdAt: 1 })
    assert.equal(status().code, 2)
    assert.match(status().stdout, /: stale: process \d+ ended without releasing\n$/)
    assert.equal(existsSync(path), true, 'status changes nothing')
  }),
)

test('break removes a held lock only with --force', (t) => {
  const cwd = directory(t)
  const path = leave(cwd, { pid: deadPid(), createdAt: 1 })
  assert.deepEqual(cli(cwd, ['break']), { code: 0, signal: null, stdout: `${path}: removed\n`, stderr: '' })
  assert.equal(existsSync(path), false)
  const again = cli(cwd, ['break'])
  assert.deepEqual([again.code, again.stdout], [0, `${path}: there is no lock\n`])
  const lock = acquireLockSync(cwd)
  const refused = cli(cwd, ['break'])
  assert.equal(refused.code, 75)
  assert.match(
    refused.stderr,
    new RegExp(
      `^${MESSAGE}\nreconcile-lock: \\S+ was not removed: process ${process.pid} .*; --force removes it, but does not stop`,
    ),
  )
  assert.equal(lock.isHeld(), true)
  assert.equal(cli(cwd, ['break', '--force']).code, 0)
  assert.equal(lock.isHeld(), false)
  assert.throws(() => lock.releaseSync(), { code: 'E_LOCK_LOST' })
})

test('status and break go through all slots', async (t) => {
  const cwd = directory(t)
  const options = { cwd, file: 'l', slots: 3 }
  const slots = [1, 2, 3].map(() => acquireLockSync(options))
  const states = () => {
    const { code, stdout } = cli(cwd, ['status', '--file', 'l', '--slots', '3', '--json'])
    const lines = stdout.trim().split('\n')
    return [code, ...lines.map((line) => basename(JSON.parse(line).path) + JSON.parse(line).state)]
  }
  assert.deepEqual(states(), [1, 'lheld', 'l.slot1held', 'l.slot2held'])
  slots[1]?.releaseSync()
  assert.deepEqual(states(), [0, 'lheld', 'l.slot1free', 'l.slot2held'])
  slots[2]?.releaseSync()
  const left = JSON.stringify({ pid: deadPid(), createdAt: 1 })
  for (const slot of ['l.slot1', 'l.slot2']) writeFileSync(join(cwd, slot), left)
  assert.deepEqual(states(), [2, 'lheld', 'l.slot1stale', 'l.slot2stale'])
  const { code, stdout, stderr } = cli(cwd, ['break', '--file', 'l', '--slots', '3'])
  const path = join(cwd, 'l')
  assert.deepEqual([code, stdout], [75, `${path}.slot1: removed\n${path}.slot2: removed\n`])
  assert.match(
    stderr,
    new RegExp(`^${MESSAGE}\nreconcile-lock: ${path} was not removed: process ${process.pid} `),
  )
  const watching = new Running(t, cwd, ['status', '--file', 'l', '--slots', '2', '--watch'])
  await until(() => /l: held [^\n]*\n[^\n]*l.slot1: free/.test(watching.stdout), 'both slots are shown')
  slots[0]?.releaseSync()
  await until(() => watching.stdout.includes('l: free'), 'the change is shown')
  watching.child.kill()
  await watching.ends()
})

test('run --slots lets so many commands run at once', async (t) => {
  const cwd = directory(t)
  const args = ['run', '--file', 'l', '--slots', '2']
  const running = [0, 1].map(() => new Running(t, cwd, [...args, '--', 'sleep', '60']))
  await until(() => ['l', 'l.slot1'].every((file) => inspectLockSync({ cwd, file }).state === 'held'))
  const refused = cli(cwd, [...args, '--', 'true'])
  assert.equal(refused.code, 75)
  assert.match(refused.stderr, /in progress\n.*: all 2 slots are held\n$/)
  for (const { child } of running) child.kill('SIGTERM')
  for (const each of running) await each.ends()
  for (const value of ['0', '1001', 'x', '1.5'])
    assert.deepEqual(cli(cwd, ['run', '--slots', value, '--', 'true']), {
      code: 64,
      signal: null,
      stdout: '',
      stderr:
        'reconcile-lock: --slots: expected a whole number from 1 to 1000\nreconcile-lock --help shows the usage\n',
    })
})

test('the help lists every exit code', (t) => {
  const cwd = directory(t)
  for (const [command, codes] of [
    [[], Object.values(exitCodes)],
    [['run'], [64, 73, 74, 75, 126, 127]],
    [['status'], [0, 1, 2, 64, 73, 74]],
    [['break'], [0, 64, 73, 74, 75]],
    [['sql'], [0, 64, 74]],
    [['completion'], [0, 64, 74]],
  ] as const) {
    const { stdout } = cli(cwd, [...command, '--help'])
    const listed = stdout.slice(stdout.indexOf('Exit codes')).match(/(?<=^ {2})\d+(?= )/gm) ?? []
    assert.deepEqual(
      [...new Set(listed.map(Number))].sort((a, b) => a - b),
      codes,
      stdout,
    )
  }
})

test('--help and --version work for every command', (t) => {
  const cwd = directory(t)
  assert.deepEqual(cli(cwd, ['--version']), { code: 0, signal: null, stdout: `${version}\n`, stderr: '' })
  for (const [args, text] of [
    [['--help'], 'Usage: reconcile-lock run'],
    [['-h'], 'Usage: reconcile-lock run'],
    [['run', '--help'], '-w, --wait SECONDS'],
    [['--help', 'run'], '--wait SECONDS'],
    [['run', '--help'], '--no-legacy'],
    [['run', '--help'], '--durable'],
    [['status', '--help'], '--json'],
    [['break', '--help'], '--force'],
    [['sql', '--help'], 'reconcile-lock sql | psql'],
    [['completion', '--help'], 'completion bash|zsh|fish'],
    [['run', '-h'], '-E, --conflict-exit-code CODE'],
  ] as const) {
    const { code, stdout, stderr } = cli(cwd, [...args])
    assert.equal(code, 0)
    assert.ok(stdout.includes(text), stdout)
    assert.ok(
      stdout.split('\n').every((line) => line.length <= 80),
      'a terminal has 80 columns',
    )
    assert.equal(stderr, '')
  }
  const inner = cli(cwd, ['run', '--', 'sh', '-c', 'echo $0', '--help'])
  assert.equal(inner.stdout, '--help\n', 'all arguments after -- belong to the command')
})

const wrong = [
  [[], /a command is missing/],
  [['walk'], /unknown command "walk"; commands: run, status, break, sql or completion/],
  [['toString'], /unknown command "toString"/],
  [['run'], /the command to run are missing/],
  [['run', '--'], /the command to run is missing/],
  [['run', '--', ''], /the command to run is missing/],
  [['run', 'true'], /reconcile-lock run -- true/],
  [['run', 'a', '--'], /the command to run is missing after --/],
  [['run', 'a', ''], /the command to run is missing after the lock file/],
  [['run', '', 'true'], /the path of the lock file is empty/],
  [['run', 'a', '-n', 'true'], /options before the lock file; a command that begins with - comes after --/],
  [['run', 'a', '-c'], /-c needs one command line, such as -c 'COMMAND ARGUMENTS'/],
  [['run', 'a', '-c', 'true', 'x'], /-c needs one command line/],
  [['run', '-c', 'true', 'a', 'true'], /--command does not go with another command/],
  [['run', '-c', 'true', '--', 'true'], /--command does not go with another command/],
  [['run', '--file', 'a', 'true', 'b'], /reconcile-lock run -- true b/],
  [['run', '9'], /run does not lock a descriptor; .* reconcile-lock run FILE sh -c COMMAND/],
  [['run', '-n', '9'], /run does not lock a descriptor/],
  [['run', '-u', '9'], /unknown option -u; run acquires one lock and releases it when its command ends/],
  [['run', '--unlock', '9'], /unknown option --unlock; run acquires one lock/],
  [['run', '-F', 'a', 'true'], /unknown option -F; run stays the parent of its command/],
  [['run', '-E', '256', 'a', 'true'], /--conflict-exit-code: expected a whole number from 0 to 255/],
  [['run', '-E', '-1', 'a', 'true'], /--conflict-exit-code needs a value/],
  [['run', '-E', '', 'a', 'true'], /--conflict-exit-code: expected/],
  [['run', '-w', 'soon', 'a', 'true'], /--wait soon: expected a number of seconds/],
  [['run', '-w', '1', '--timeout', '2', 'a', 'true'], /--wait was given twice/],
  [['run', '-w'], /--wait needs a value; one that begins with - is written --wait=VALUE/],
  [['status', '-n'], /status does not accept --nonblock/],
  [['completion'], /completion needs the name of a shell: bash, zsh, fish/],
  [['completion', 'tcsh'], /completion needs the name of a shell/],
  [['completion', 'bash', 'x'], /completion: unexpected argument "x"/],
  [['--', 'true'], /a command is missing/],
  [['run', '--wait', '--', 'true'], /--wait needs a value; one that begins with - is written --wait=VALUE/],
  [['run', '--wait', '-1', '--', 'true'], /--wait needs a value/],
  [['run', '--wait', 'soon', '--', 'true'], /a number of seconds/],
  [['run', '--wait', '1e3', '--', 'true'], /a number of seconds/],
  [['run', '--wait', '', '--', 'true'], /a number of seconds/],
  [['run', '--wait', 'NaN', '--', 'true'], /a number of seconds/],
  [['run', '--wait', '1', '--wait', '2', '--', 'true'], /--wait was given twice/],
  [['run', '--json', '--', 'true'], /run does not accept --json/],
  [['run', '--colour', '--', 'true'], /unknown option --colour\n/],
  [['run', '-k', '5', '--', 'true'], /unknown option -k; did you mean --kill-after SECONDS\?/],
  [['run', '--messages', 'm', '--', 'true'], /unknown option --messages; did you mean --message\?/],
  [['run', '--time', '5', '--', 'true'], /unknown option --time; did you mean --timeout\?/],
  [['run', '--kill', '5', '--', 'true'], /unknown option --kill; did you mean --kill-after\?/],
  [['status', '--json=1'], /--json does not accept a value/],
  [['run', '--file', '', '--', 'true'], /--file needs/],
  [
    ['run', '--file', 'a/', '--', 'true'],
    /^reconcile-lock: --file a\/: this names a directory; give the path of a file$/m,
  ],
  [['status', '--force'], /status does not accept --force/],
  [['status', '--close'], /status does not accept --close/],
  [['run', '-f', 'a', '--', 'true'], /unknown option -f; did you mean --file\?/],
  [['run', '--close', '--postgres', 'postgres://h/d', '--', 'true'], /--close does not go with --postgres/],
  [['status', '--no-legacy'], /status does not accept --no-legacy/],
  [
    ['run', '--no-legacy', '--postgres', 'postgres://h/d', '--', 'true'],
    /--no-legacy does not go with --postgres/,
  ],
  [['status', '--durable'], /status does not accept --durable/],
  [['status', '--shared'], /status does not accept --shared/],
  [['run', '-sx', '--', 'true'], /--shared and --exclusive exclude each other/],
  [['run', '-s', '--slots', '2', '--', 'true'], /--shared and --slots exclude each other/],
  [['run', '-s', '--durable', '--', 'true'], /--shared and --durable exclude each other/],
  [['break', '--slots', '2', '--postgres', 'postgres://h/d'], /--slots does not go with --postgres/],
  [['status', '--slots', '0'], /--slots: expected a whole number from 1 to 1000/],
  [['status', '--mode', '660', '--postgres', 'postgres://h/d'], /--mode does not go with --postgres/],
  [
    ['run', '--durable', '--postgres', 'postgres://h/d', '--', 'true'],
    /--durable does not go with --postgres/,
  ],
  [['status', 'now'], /status: unexpected argument "now"/],
  [['status', '--', 'true'], /status does not run a command/],
  [['break', '--json'], /break does not accept --json/],
  [['status', '--file'], /--file needs a value/],
] as const

const noCommand: KnownFailure = {
  runtime: 'bun',
  why: 'Bun consumes the first `--` of a command line',
}

for (const [args, hint] of wrong) {
  test(
    `usage error: ${args.join(' ')}`,
    knownFailure(args[0] === '--' ? noCommand : [], (t) => {
      const cwd = directory(t)
      const { code, stdout, stderr } = cli(cwd, [...args])
      assert.equal(code, 64, stderr)
      assert.equal(stdout, '')
      assert.match(stderr, hint)
      assert.match(stderr, /--help shows the usage\n$/)
      assert.equal(existsSync(resolveLockPath(cwd)), false)
    }),
  )
}

const URL = 'postgres://u:SECRET@h/d'
const secrets: [args: string[], hint: RegExp][] = [
  [[URL], /unknown command; commands: run/],
  [['u:SECRET@h/d'], /unknown command; commands: run/],
  [['status', URL], /status: unexpected argument; a URL goes with --postgres/],
  [['status', 'SECRET@h/d'], /status: unexpected argument$/m],
  [['run', 'psql', URL], /-- and the command to run are missing: reconcile-lock run -- COMMAND/],
  [['run', URL, 'true'], /run takes a path before the command, not a URL; a URL goes with --postgres/],
  [['run', URL], /reconcile-lock run -- COMMAND/],
  [['run', '--file', 'f', 'PGPASSWORD=SECRET', 'true'], /reconcile-lock run -- COMMAND/],
  [['run', 'PGPASSWORD=SECRET', 'true'], /run takes a path before the command, not a variable: put env/],
  [['PGPASSWORD=SECRET'], /unknown command; commands: run/],
  [['run', '-E', URL, 'a', 'true'], /--conflict-exit-code: expected/],
  [['run', '--wait', URL, '--', 'true'], /--wait: expected a number of seconds/],
  [['run', `--wait=${URL}`, '--', 'true'], /--wait: expected a number of seconds/],
  [['status', `--${URL}`], /unknown option\n/],
  [['status', `--${URL}?sslmode=require`], /unknown option\n/],
  [['status', '--u:SECRET,x@h/d'], /unknown option\n/],
  [['status', '--file', URL], /--file takes a path, not a URL; a URL goes with --postgres/],
  [['status', '--name', URL], /--name takes a name, not a URL/],
  [['status', '--postgres', URL, '--name', URL], /--name takes a name, not a URL/],
  [['status', '--postgres', 'postgres://u:p@SECRET@h/d'], /an @ of a password as %40/],
  [['status', '--postgres', 'postgres://u:p@SEC/RET@h/d'], /an @ of a password as %40/],
  [['status', '--postgres', 'postgres://u:1/SECRET@h/d'], /an @ of a password as %40/],
  [['status', '--postgres', 'postgresql://u:1?SECRET@h/d'], /an @ of a password as %40/],
  [['status', '--postgres', 'postgres://u:1#SECRET@h/d'], /an @ of a password as %40/],
]
for (const [args, hint] of secrets)
  test(`no password in the error: ${args.join(' ')}`, (t) => {
    const { code, stdout, stderr } = cli(directory(t), args)
    assert.deepEqual([code, stdout], [64, ''], stderr)
    assert.match(stderr, hint)
    assert.doesNotMatch(stderr, /SEC|RET/)
  })

for (const [word, advice] of [
  [URL, ''],
  ['PGPASSWORD=SECRET', '; write env before NAME=VALUE'],
] as const)
  test(`run does not print the missing command ${word}`, (t) => {
    const { code, stderr } = cli(directory(t), ['run', '--', word])
    assert.deepEqual([code, stderr], [127, `reconcile-lock: the command: command not found${advice}\n`])
  })

test('options may come before the command', (t) => {
  const cwd = directory(t)
  assert.equal(cli(cwd, ['--file', 'mine', '--wait', '1', 'run', '--', 'test', '-f', 'mine']).code, 0)
  assert.equal(JSON.parse(cli(cwd, ['--json', 'status', '--file', 'mine']).stdout).path, join(cwd, 'mine'))
})

test('run --shared names --no-legacy under the default name', (t) => {
  const cwd = directory(t)
  const { code, stderr } = cli(cwd, ['run', '--shared', '--', 'true'])
  assert.equal(code, 73)
  assert.match(stderr, /another file name, or --no-legacy if no such process uses it\n$/)
  assert.equal(cli(cwd, ['run', '--shared', '--no-legacy', '--', 'true']).code, 0)
})

test('an unusable lock file exits 73 with the reason', (t) => {
  const cwd = directory(t)
  symlinkSync('/nowhere', resolveLockPath(cwd))
  for (const args of [['run', '--', 'true'], ['status'], ['break']]) {
    const { code, stderr } = cli(cwd, args)
    assert.equal(code, 73)
    assert.match(stderr, /^reconcile-lock: Refusing to read symlinked lock file: \//)
  }
  assert.match(cli(cwd, ['run', '--file', 'no/dir', '--', 'true']).stderr, /^reconcile-lock: ENOENT/)
})

test('run reports a lost lock and exits 74', (t) => {
  const cwd = directory(t)
  const lost = cli(cwd, ['run', '--file', 'l', '--', 'rm', 'l'])
  assert.equal(lost.code, 74)
  assert.match(lost.stderr, /^reconcile-lock: lost the lock \/\S+ while holding it: /)
  for (const end of ['exit 3', 'exit 75', 'kill -TERM $$', 'kill -SEGV $$']) {
    const { code, signal } = cli(cwd, ['run', '--file', 'l', '--', 'sh', '-c', `rm l; ${end}`])
    assert.deepEqual([code, signal], [74, null], end)
  }
})

test('a loss gives 74 though the file comes back', (t) => {
  const cwd = directory(t)
  const command = `trap 'touch lost' TERM; mv l away; until test -e lost; do sleep 0.05; done; mv away l`
  const { code, stderr } = cli(cwd, ['run', '--file', 'l', '--', 'sh', '-c', command])
  assert.equal(code, 74, stderr)
})

test('run reports a take-over with the previous holder and reason', (t) => {
  const cwd = directory(t)
  const pid = deadPid()
  leave(cwd, { pid, createdAt: Date.now() - 72_500, host: 'ledger' })
  const { code, stderr } = cli(cwd, ['run', '--', 'true'])
  assert.equal(code, 0)
  const takeOver = `took over the stale lock \\S+ of process ${pid} on ledger, acquired 1 min 1\\d s ago`
  assert.match(stderr, new RegExp(`^reconcile-lock: ${takeOver}: process ${pid} ended without releasing\n$`))
  leave(cwd, 'no record')
  const unknown =
    /^reconcile-lock: took over the stale lock \S+: the file did not contain a lock record; the previous holder is unknown\n$/
  assert.match(cli(cwd, ['run', '--', 'true']).stderr, unknown)
})

test('control characters of a path are escaped in all output', (t) => {
  const odd = 'a\nreconcile-lock: forged\r\t\x1b[2J\x7f\x9b\u2028\u202e\u2066'
  const shown = String.raw`a\nreconcile-lock: forged\r\t\x1b[2J\x7f\x9b\u2028\u202e\u2066`
  const parent = directory(t)
  const cwd = join(parent, odd)
  mkdirSync(cwd)
  const path = join(parent, shown, basename(resolveLockPath(cwd)))
  const assertOneLine = (text: string, begin: string) => {
    assert.equal(text.slice(0, begin.length), begin)
    assert.match(text, /^[ -~]*\n$/)
  }
  assertOneLine(cli(cwd, ['status']).stdout, `${path}: free: `)
  assert.equal(JSON.parse(cli(cwd, ['status', '--json']).stdout).path, resolveLockPath(cwd))
  assertOneLine(cli(cwd, ['break']).stdout, `${path}: there is no lock`)
  const lock = acquireLockSync(cwd)
  const [message, holder] = cli(cwd, ['run', '--message', odd, '--', 'true']).stderr.split(/(?<=\n)/)
  assertOneLine(message ?? '', shown)
  assertOneLine(holder ?? '', `reconcile-lock: ${path} is held by process ${process.pid}`)
  lock.releaseSync()
  const [loss] = cli(cwd, ['run', '--', 'rm', resolveLockPath(cwd)]).stderr.split(/(?<=\n)/)
  assertOneLine(loss ?? '', 'reconcile-lock: lost the lock ')
  symlinkSync('/nowhere', resolveLockPath(cwd))
  assertOneLine(cli(cwd, ['status']).stderr, 'reconcile-lock: Refusing to read symlinked lock file: ')
  assertOneLine(
    cli(cwd, ['run', '--file', 'f', '--', odd]).stderr,
    `reconcile-lock: ${shown}: command not found`,
  )
  assert.match(cli(cwd, [odd]).stderr, /^reconcile-lock: unknown command "a\\nrecon[ -~]+\n[ -~]+\n$/)
})

test('run without PostgreSQL does not pass on a token', (t) => {
  process.env.RECONCILE_LOCK_TOKEN = '41'
  t.after(() => delete process.env.RECONCILE_LOCK_TOKEN)
  const { code, stdout } = cli(directory(t), [
    'run',
    '--',
    'sh',
    '-c',
    'printenv RECONCILE_LOCK_TOKEN || echo none',
  ])
  assert.deepEqual([code, stdout], [0, 'none\n'])
})

test('a current directory without a UTF-8 name exits 73', (t) => {
  const cwd = directory(t)
  const shell = 'cd "$1" && mkdir "$(printf "\\377")" && cd "$(printf "\\377")" && shift && exec "$@"'
  const words = ['-c', shell, 'sh', cwd, process.execPath, bin, 'status']
  const { status, stdout, stderr } = spawnSync('sh', words, { encoding: 'utf8' })
  assert.deepEqual([status, stdout], [73, ''], stderr)
  assert.match(stderr, /^reconcile-lock: .*the name of the current directory is not valid UTF-8.*\n$/)
})

/** The byte 0xE9 is not UTF-8. A shell passes it, because Node.js passes only UTF-8. */
const withByte = (cwd: string, script: string, args: string[]) =>
  spawnSync('bash', ['-c', script, 'bash', process.execPath, bin, ...args], { cwd, encoding: 'utf8' })

for (const args of [
  ['run', 'f', 'cat', 're?.txt'],
  ['run', '--file', 'f', '--', 're?'],
  ['run', 'f', '--', 'echo', '\uFFFD', '?'],
  ['run', 'f', 'echo', '?', '\uFFFD'],
  ['run', 'f', '-c', 'echo ?'],
  ['run', '-c', 'echo ?', 'f'],
  ['run', 'l?.lock', 'true'],
  ['run', '--file', 'l?.lock', '--', 'true'],
  ['run', '--file=l?.lock', '--', 'true'],
  ['run', '--message', '?', 'f', 'true'],
  ['status', '--file', 'l?.lock'],
  ['break', '--force', '--file', 'l?.lock'],
  ['status', '--postgres', 'postgres://h/SECRET?'],
  ['status', '--postgres', 'postgres://h/d', '--name', '?'],
  ['sql', '?'],
  ['completion', '?'],
  ['?'],
  ['run', '--help', '?'],
])
  test(`an argument that is not UTF-8 exits 64: ${args.join(' ')}`, (t) => {
    const cwd = directory(t)
    writeFileSync(join(cwd, 'l\uFFFD.lock'), JSON.stringify({ pid: deadPid(), createdAt: 1 }))
    const { status, stdout, stderr } = withByte(cwd, `"\${@//\\?/$'\\xe9'}"`, args)
    assert.deepEqual([status, stdout], [64, ''], stderr)
    assert.match(
      stderr,
      /^reconcile-lock: .* is not valid UTF-8, .*\nreconcile-lock --help shows the usage\n$/,
    )
    assert.doesNotMatch(stderr, /SECRET/)
    assert.deepEqual(readdirSync(cwd), ['l\uFFFD.lock'])
  })

test(
  'an environment value that is not UTF-8 is altered',
  knownFailure({ runtime: 'deno', why: 'Deno leaves such a variable out' }, (t) => {
    const args = ['run', 'f', 'printenv', 'X']
    assert.equal(withByte(directory(t), `X=$'\\xe9' "$@"`, args).stdout, '\uFFFD\n')
    const bytes = withByte(directory(t), `X=$'\\xe9' printenv X | od -An -tx1`, []).stdout
    assert.equal(bytes.trim(), 'e9 0a', 'the shell passes the byte')
  }),
)

test('an argument may contain U+FFFD itself', (t) => {
  const cwd = directory(t)
  for (const args of [
    ['run', 'l\uFFFD', 'sh', '-c', 'ls; echo "$1"', 'sh', '\uFFFD'],
    ['run', '--file', 'l\uFFFD', '--', 'sh', '-c', 'ls; echo "$1"', 'sh', '\uFFFD'],
  ])
    assert.deepEqual(cli(cwd, args), { code: 0, signal: null, stdout: 'l\uFFFD\n\uFFFD\n', stderr: '' })
})

test(
  'an unverifiable argument with U+FFFD is refused',
  knownFailure(
    [
      ...(['bun', 'deno'] as const).map((runtime) => ({ runtime, why: 'it has no option --title' })),
      { platform: 'qemu', why: 'qemu shows a process its original command line' },
    ],
    (t) => {
      const cwd = directory(t)
      // The title replaces the command line that the system shows.
      const args = ['--title', 'x', bin, 'run', 'f', 'touch', '\uFFFD']
      const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd, encoding: 'utf8' })
      assert.deepEqual([status, stdout], [64, ''], stderr)
      assert.match(stderr, /^reconcile-lock: the argument "\uFFFD" contains U\+FFFD, by which /)
      assert.deepEqual(readdirSync(cwd), [])
    },
  ),
)

test(
  'run works in a pipeline, also without a reader',
  knownFailure(
    { runtime: 'deno', why: 'Deno ends when its reader has ended, even if the error is handled' },
    (t) => {
      const cwd = directory(t)
      const sh = (line: string) =>
        spawnSync('bash', ['-c', `set -o pipefail; ${line}`], { cwd, encoding: 'utf8' })
      const piped = sh(`printf 'b\\na\\n' | ${shell(['run', '--', 'sort'])} | tr a-z A-Z`)
      assert.deepEqual([piped.status, piped.stdout], [0, 'A\nB\n'])
      // More than a pipe holds, for a late reader: writes to the shared stream must block.
      const late = sh(`${shell(['run', '--', 'head', '-c', '3000000', '/dev/zero'])} | { sleep 0.3; wc -c; }`)
      assert.deepEqual([late.status, late.stdout.trim(), late.stderr], [0, '3000000', ''])
      for (const args of [['--help'], ['status', '--json']]) {
        // The reader ends before the first write.
        const { stderr } = sh(`{ sleep 0.3; ${shell(args)}; } | true`)
        assert.equal(stderr, '')
      }
    },
  ),
)

test('a waiting run leaves its output blocking for other writers', async (t) => {
  const cwd = directory(t)
  const lock = acquireLockSync({ cwd, file: 'f' })
  const waiting = new Running(t, cwd, ['run', 'f', 'true'])
  await until(() => waits(waiting.child.pid), 'run waits')
  for (const descriptor of [1, 2]) {
    const [, flags = ''] =
      /^flags:\s*(\d+)/m.exec(read(`/proc/${waiting.child.pid}/fdinfo/${descriptor}`)) ?? []
    assert.equal(Number.parseInt(flags, 8) & constants.O_NONBLOCK, 0, `descriptor ${descriptor}`)
  }
  lock.releaseSync()
  assert.equal((await waiting.ends()).code, 0)
})

test('run writes whole errors to a full non-blocking pipe', (t) => {
  const cwd = directory(t)
  const fill = 'dd if=/dev/zero bs=1000 count=1000 oflag=nonblock 2> /dev/null; touch full'
  const reader = 'until test -e full; do sleep 0.05; done; sleep 0.5; tr -d "\\0"'
  const line = `{ ${fill}; ${shell(['walk'])} 2>&1; } | { ${reader}; }`
  const { stdout } = spawnSync('bash', ['-c', line], { cwd, encoding: 'utf8' })
  assert.match(stdout, /^reconcile-lock: unknown command [^\n]+\n[^\n]+ shows the usage\n$/)
})

test('a child of an ended command holds no lock', async (t) => {
  const cwd = directory(t)
  const { code } = cli(cwd, ['run', '--', 'sh', '-c', 'sleep 30 >/dev/null 2>&1 & echo $! > pid'])
  assert.equal(code, 0)
  const pid = Number(readFileSync(join(cwd, 'pid'), 'utf8'))
  t.after(() => process.kill(pid, 'SIGKILL'))
  acquireLockSync(cwd).releaseSync()
  assert.equal(process.kill(pid, 0), true)
})

test('run ends its command and descendants after a loss', (t) => {
  const cwd = directory(t)
  const stubborn = `trap '' TERM; echo $$ > pid; rm l; while :; do sleep 1; done`
  const command = ['sh', '-c', `sh -c "$0" & exec sleep 60`, stubborn]
  const { code, stderr } = cli(cwd, ['run', '--file', 'l', '--kill-after', '0.3', '--', ...command])
  assert.equal(code, 74)
  // A slow machine also reports that it waits for the process group, before or after the SIGKILL.
  const sent = stderr.replace(/.* waiting for its process group \d+\n/, '')
  assert.match(sent, /^.* lost the lock .*\n.* sending SIGTERM to process \d+\n.* sending SIGKILL\n$/)
  assert.equal(existsSync(`/proc/${readFileSync(join(cwd, 'pid'), 'utf8').trim()}/exe`), false)
})
