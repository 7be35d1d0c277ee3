// Faults around the command line: commands that cannot be started, output that cannot be written.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, closeSync, existsSync, openSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { inspectLockSync } from 'reconcile-lock'
import { bin, cli, Running } from '../support/cli.mjs'
import { deadPid, directory, leave } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { until } from '../support/time.mjs'

const unable: [what: string, command: string, code: number, reason: string][] = [
  ['is not in the PATH', 'no-such-command', 127, 'command not found'],
  ['does not exist', './missing', 127, 'command not found'],
  [
    'lacks its interpreter',
    './script',
    127,
    'the interpreter in its first line, or the loader of a binary, was not found',
  ],
  ['is not executable', './plain', 126, 'permission denied'],
  ['is a directory', './', 126, 'permission denied'],
  // Node.js throws these errors; it emits those above.
  ['is below a file', './plain/x', 126, 'not a directory'],
  ['is a link to itself', './loop', 126, 'too many symbolic links encountered'],
  ['has too long a name', `./${'x'.repeat(300)}`, 126, 'name too long'],
]

const otherErrors: KnownFailure = {
  runtime: 'deno',
  why: 'an error that spawn() throws has another message in Deno, and no number',
}
/** The errors that Node.js throws. */
const thrown = ['is below a file', 'is a link to itself', 'has too long a name']

for (const [what, command, code, reason] of unable) {
  test(
    `a command that ${what} exits ${code}`,
    knownFailure(thrown.includes(what) ? otherErrors : [], (t) => {
      const cwd = directory(t)
      writeFileSync(join(cwd, 'plain'), 'echo\n', { mode: 0o644 })
      writeFileSync(join(cwd, 'script'), '#!/no/such/interpreter\n')
      chmodSync(join(cwd, 'script'), 0o755)
      symlinkSync('loop', join(cwd, 'loop'))
      const ended = cli(cwd, ['run', '--', command])
      const stderr = `reconcile-lock: ${command}: ${reason}\n`
      assert.deepEqual(ended, { code, signal: null, stdout: '', stderr })
      assert.equal(inspectLockSync(cwd).state, 'free')
    }),
  )
}

test('a PATH command without its interpreter exits 127', async (t) => {
  const cwd = directory(t)
  writeFileSync(join(cwd, 'crlf'), '#!/bin/sh\r\n', { mode: 0o755 })
  const within = ['env', `PATH=${cwd}${delimiter}${process.env.PATH}`]
  const stderr =
    'reconcile-lock: crlf: the interpreter in its first line, or the loader of a binary, was not found\n'
  const running = new Running(t, cwd, ['run', '--', 'crlf'], within)
  assert.deepEqual(await running.ends(), { code: 127, signal: null, stdout: '', stderr })
})

const endsOfFull: KnownFailure = {
  runtime: 'deno',
  why: 'Deno ends when its standard output cannot be written, even if the error is handled',
}

/** The descriptor of /dev/full. Without that file, skips the test and returns `undefined`. */
function full(t: TestContext): number | undefined {
  if (!existsSync('/dev/full')) return void t.skip('there is no /dev/full here')
  const descriptor = openSync('/dev/full', 'w')
  t.after(() => closeSync(descriptor))
  return descriptor
}

test(
  'each command exits 74 if stdout cannot be written',
  knownFailure([{ runtime: 'bun', why: 'Bun reports no error of its standard output' }, endsOfFull], (t) => {
    const descriptor = full(t)
    if (descriptor === undefined) return
    const cwd = directory(t)
    for (const args of [['status'], ['status', '--json'], ['break'], ['--help'], ['--version']]) {
      const { code, stderr } = cli(cwd, args, '', ['pipe', descriptor, 'pipe'])
      assert.equal(code, 74, args.join())
      assert.match(
        stderr,
        /^reconcile-lock: cannot write to standard output: ENOSPC: [^\n]+\n$/,
        'one line, no stack',
      )
    }
  }),
)

test('run completes if stderr cannot be written', (t) => {
  const descriptor = full(t)
  if (descriptor === undefined) return
  const cwd = directory(t)
  // `run` has a message before the command (a take-over) and after it (a lost lock).
  leave(cwd, { pid: deadPid(), createdAt: 1 })
  const command = 'trap "" TERM; sleep 0.3; rm .xero-reconcile-lock.json; touch ran; exit 7'
  const { code } = cli(cwd, ['run', '--', 'sh', '-c', command], '', ['pipe', 'pipe', descriptor])
  assert.deepEqual([code, existsSync(join(cwd, 'ran'))], [74, true])
})

/** The arguments of `bash` for a script, in which "$@" is the program. */
const scripted = (script: string, args: string[]) => ['-c', script, 'bash', process.execPath, bin, ...args]

test('run completes with NODE_DEBUG if stderr has no reader', (t) => {
  const cwd = directory(t)
  const script = '{ sleep 0.3; NODE_DEBUG=reconcile-lock "$@"; echo $? > code; } 2>&1 | true; sleep 1'
  spawnSync('bash', scripted(script, ['run', '--', 'sh', '-c', 'sleep 0.3; exit 7']), { cwd })
  assert.equal(readFileSync(join(cwd, 'code'), 'utf8'), '7\n')
})

test('a loss ends the command while nothing reads stderr', async (t) => {
  const cwd = directory(t)
  // dd fills the pipe, and does not wait for its reader.
  const command = `trap 'touch ended; exit' TERM
    dd if=/dev/zero bs=1000 count=1000 oflag=nonblock >&2 2> /dev/null
    rm .xero-reconcile-lock.json
    while test -e "$PWD"; do sleep 0.05; done`
  const reader = 'while test -e "$PWD" && ! test -e ended; do sleep 0.05; done; tr -d "\\0"'
  const script = `{ "$@" 2>&1; echo $?; } | { ${reader}; }`
  const args = scripted(script, ['run', '--', 'sh', '-c', command])
  const piped = spawn('bash', args, { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
  await until(() => existsSync(join(cwd, 'ended')), 'the command gets SIGTERM')
  assert.match(await text(piped.stdout), /sending SIGTERM to process \d+\n74\n$/)
})

const waitsForReader: KnownFailure = {
  runtime: 'deno',
  why: 'a write to standard error blocks the event loop of Deno',
}

for (const [kind, fill, known] of [
  ['blocking', '(cat /dev/zero >&2 &); sleep 0.5; exec 2> /dev/null', waitsForReader],
  ['non-blocking', 'dd if=/dev/zero bs=1000 count=1000 oflag=nonblock >&2 2> /dev/null', []],
] as const)
  test(
    `a full ${kind} stderr delays no signal`,
    knownFailure(known as KnownFailure | [], async (t) => {
      const cwd = directory(t)
      const command = `trap 'touch lost' TERM; trap 'touch passed' USR1; echo $PPID > run; echo $$ > command
      ${fill}
      rm .xero-reconcile-lock.json
      while test -e "$PWD"; do sleep 0.05; done`
      const reader = 'while test -e "$PWD" && ! test -e read; do sleep 0.05; done; tr -d "\\0"'
      const script = `{ "$@" 2>&1; echo $?; } | { ${reader}; }`
      const args = scripted(script, ['run', '--kill-after', '3', '--', 'sh', '-c', command])
      const piped = spawn('bash', args, { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
      const pidIn = (name: string) => Number(readFileSync(join(cwd, name), 'utf8'))
      await until(() => existsSync(join(cwd, 'lost')), 'the command gets SIGTERM')
      process.kill(pidIn('run'), 'SIGUSR1')
      await until(() => existsSync(join(cwd, 'passed')), 'the command gets SIGUSR1')
      await until(() => !existsSync(`/proc/${pidIn('command')}`), 'SIGKILL ends the command')
      writeFileSync(join(cwd, 'read'), '')
      const messages = / lost the lock .*\n.* sending SIGTERM to process \d+\n.*; sending SIGKILL\n74\n$/
      assert.match(await text(piped.stdout), messages)
    }),
  )
