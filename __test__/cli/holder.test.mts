// The command line and the user of the holder, in the output of the command line.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { acquireLockSync, inspectLockSync, LockError, resolveLockPath } from 'reconcile-lock'
import { cli, Running } from '../support/cli.mjs'
import { deadPid, directory, leave, readRecord } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { longerCommandLine } from '../support/qemu.mjs'
import { until } from '../support/time.mjs'

test('status names the command line and user of the holder', async (t) => {
  const cwd = directory(t)
  const running = new Running(t, cwd, ['run', '--', 'sh', '-c', 'exec sleep 60', 'x'.repeat(300)])
  await until(() => inspectLockSync(cwd).state === 'held', 'run holds the lock')
  const { command, user } = inspectLockSync(cwd)
  assert.match(command ?? '', / run -- sh -c exec sleep 60 x{300}$/)
  assert.equal(user, execFileSync('id', ['-un'], { encoding: 'utf8' }).trim())
  const text = cli(cwd, ['status']).stdout
  assert.match(
    text,
    new RegExp(`: held for \\d+ s by process ${running.child.pid} \\(.{120}…\\), user ${user}, on \\S+\n$`),
  )
  const json = JSON.parse(cli(cwd, ['status', '--json']).stdout)
  assert.deepEqual([json.command, json.user], [command, user])
  const refused = cli(cwd, ['run', '--', 'true'])
  assert.doesNotMatch(refused.stderr, /sleep/, 'no arguments in errors')
  running.child.kill('SIGTERM')
  await running.ends()
})

const noProgramName: KnownFailure = {
  platform: 'musl',
  why: 'the script that starts Node.js there does not pass on its own name',
}
test(
  'a command line is escaped for the terminal',
  knownFailure([longerCommandLine, noProgramName], async (t) => {
    const cwd = directory(t)
    // The first word, because the path of the program may fill the line.
    const within = ['bash', '-c', 'exec -a "$0" "$@"', 'a\x1b[2Jb\n']
    const running = new Running(t, cwd, ['run', '--', 'sleep', '60'], within)
    await until(() => inspectLockSync(cwd).state === 'held', 'run holds the lock')
    assert.match(cli(cwd, ['status']).stdout, /^[ -~]*\(a\\x1b\[2Jb\\n [ -~]*…?\), [ -~]*\n$/)
    running.child.kill('SIGTERM')
    await running.ends()
  }),
)

for (const [what, change] of [
  ['start time', { startTime: 1 }],
  ['kernel', { bootId: 'another' }],
  ['pid namespace', { pidNs: 1 }],
] as const)
  test(`the holder is not named if its ${what} differs`, (t) => {
    const cwd = directory(t)
    // Its kernel lock keeps the lock held, whatever the record says.
    using lock = acquireLockSync(cwd)
    const record = readRecord(lock.path)
    const described = (more: object) => {
      writeFileSync(lock.path, JSON.stringify({ ...record, ...more }))
      const { state, command, user } = inspectLockSync(cwd)
      return [state, command !== undefined, user !== undefined]
    }
    assert.deepEqual(described({}), ['held', true, true], 'the control: its own record')
    assert.deepEqual(described(change), ['held', false, false])
  })

test('a contention error has no command line', (t) => {
  const cwd = directory(t)
  acquireLockSync(cwd)
  assert.throws(
    () => acquireLockSync(cwd),
    (error) => error instanceof LockError && !JSON.stringify({ ...error }).includes(process.argv[1] ?? ''),
  )
})

test('status --watch prints a line for each change', async (t) => {
  const cwd = directory(t)
  const path = resolveLockPath(cwd)
  const text = new Running(t, cwd, ['status', '--watch'])
  const json = new Running(t, cwd, ['status', '--watch', '--json'])
  const lines = (count: number) =>
    until(() => [text, json].every(({ stdout }) => stdout.split('\n').length > count), `${count} lines`)
  await lines(1)
  const lock = acquireLockSync(cwd)
  await lines(2)
  lock.releaseSync()
  await lines(3)
  for (const { child } of [text, json]) child.kill('SIGINT')
  const [first, second] = [await text.ends(), await json.ends()]
  assert.equal(first.signal, 'SIGINT')
  assert.match(first.stdout, new RegExp(`^${path}: free: .*\n${path}: held for .*\n${path}: free: .*\n$`))
  const states = second.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line).state)
  assert.deepEqual(states, ['free', 'held', 'free'])
})

test('status names the readers and the waiting owner', async (t) => {
  const cwd = directory(t)
  const reader = new Running(t, cwd, [
    'run',
    '-s',
    'f',
    'sh',
    '-c',
    'echo in; until test -e end; do sleep 0.05; done',
  ])
  await until(() => reader.stdout.includes('in'), 'the command runs')
  const status = () => cli(cwd, ['status', '--file', 'f'])
  const shown = /^\/\S+\/f: held in shared mode by process (\d+) \(.+\), user \w+\n$/
  const { code, stdout } = status()
  assert.equal(code, 1)
  assert.equal(Number(shown.exec(stdout)?.[1]), reader.child.pid, stdout)
  assert.deepEqual(cli(cwd, ['run', '-ns', 'f', 'true']).code, 0)
  assert.match(
    cli(cwd, ['run', '-n', 'f', 'true']).stderr,
    /f is held: process \d+ holds it in shared mode\n$/,
  )
  const owner = new Running(t, cwd, ['run', 'f', 'true'])
  await until(() => / \(.+\), user \w+, on .*; it waits for process \d+ \(/.test(status().stdout), 'it waits')
  writeFileSync(join(cwd, 'end'), '')
  assert.equal((await owner.ends()).code, 0)
})

test('run --shared reports the owner that did not release', (t) => {
  const cwd = directory(t)
  leave(cwd, { pid: deadPid(), createdAt: 1 }, 60, 'f')
  for (const _ of ['a reader', 'another reader'])
    assert.match(
      cli(cwd, ['run', '-s', 'f', 'true']).stderr,
      /^reconcile-lock: found the stale lock \S+ of process/,
    )
  assert.match(
    cli(cwd, ['run', 'f', 'true']).stderr,
    /^reconcile-lock: took over the stale lock \S+ of process/,
  )
})
