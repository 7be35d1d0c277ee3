import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  readdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { constants } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLockSync, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { send } from '../support/child.mjs'
import {
  bin,
  cli,
  exists,
  hideProc,
  Listener,
  publicProgram,
  Running,
  read,
  shell,
  waits,
} from '../support/cli.mjs'
import { directory } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { sleep, until } from '../support/time.mjs'
import { processState } from '../support/waiter.mjs'

const wrongEnd: KnownFailure = {
  runtime: 'deno',
  why: 'a process that was sent a signal is reported to have ended by it',
  sometimes: true,
}

test(
  'run passes on each signal once and outlives the command',
  knownFailure(
    { runtime: 'deno', why: 'Deno may open its inspector at SIGUSR1', sometimes: true },
    async (t) => {
      const cwd = directory(t)
      const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const
      const listener = new Listener(cwd, [...signals, 'SIGCONT'])
      const running = new Running(t, cwd, ['run', '--', ...listener.command])
      await listener.pid()
      const sent: string[] = []
      for (const signal of [...signals, 'SIGCONT', 'SIGINT'] as const) {
        send(running.child, signal)
        sent.push(signal)
        await listener.receives(sent.join())
      }
      assert.equal(inspectLockSync(cwd).state, 'held')
      writeFileSync(join(cwd, 'end'), '')
      const { code, stderr } = await running.ends()
      assert.deepEqual([code, stderr], [9, ''])
      assert.equal(listener.received(), sent.join())
      assert.equal(inspectLockSync(cwd).state, 'free')
    },
  ),
)

const unknownToBun: KnownFailure = {
  runtime: 'bun',
  why: 'Bun cannot send this signal, so run exits with 128 + N',
}
const handledByDeno: KnownFailure = {
  runtime: 'deno',
  why: 'Deno handles SIGBUS and SIGSEGV itself, so run exits with 128 + N',
}
const inspector: KnownFailure = {
  runtime: 'deno',
  why: 'Deno may open its inspector at SIGUSR1, so run exits with 128 + N',
}
const EXCEPTIONS: Record<string, KnownFailure> = {
  SIGBUS: handledByDeno,
  SIGPWR: unknownToBun,
  SIGSEGV: handledByDeno,
  SIGUSR1: inspector,
  SIGSTKFLT: unknownToBun,
}

const STOPPING = new Set(['SIGSTOP', 'SIGTSTP', 'SIGTTIN', 'SIGTTOU'])
const IGNORED = new Set(['SIGCHLD', 'SIGCONT', 'SIGURG', 'SIGWINCH'])

for (const [name, number] of Object.entries(constants.signals).filter(([name]) => !STOPPING.has(name))) {
  test(
    `run ends as its command does after ${name}`,
    knownFailure(EXCEPTIONS[name] ?? [], (t) => {
      const cwd = directory(t)
      const command = ['sh', '-c', `kill -${number} $$`]
      const { signal } = spawnSync(command[0] ?? '', command.slice(1), { cwd })
      assert.equal(signal === null, IGNORED.has(name))
      const ended = cli(cwd, ['run', '--', ...command])
      assert.deepEqual(ended, { code: signal === null ? 0 : null, signal, stdout: '', stderr: '' })
      assert.equal(inspectLockSync(cwd).state, 'free')
    }),
  )
}

const missing: Record<string, { env?: NodeJS.ProcessEnv; within?: string[]; known?: KnownFailure | [] }> = {
  'there are prlimit and /proc': {},
  'there is no prlimit': { env: { PATH: '/nowhere' } },
  'there is no /proc': {
    within: hideProc,
    known: { runtime: 'bun', why: 'Bun does not start the command without /proc' },
  },
}
for (const [when, { env, within = [], known = [] }] of Object.entries(missing)) {
  test(
    `only the command dumps core: ${when}`,
    knownFailure([handledByDeno, known].flat(), (t) => {
      const cwd = directory(t)
      const sh = (script: string) => {
        const words = [...within, '/bin/sh', '-c', `ulimit -c unlimited || exit; ${script}`]
        return spawnSync(words[0] ?? '', words.slice(1), { cwd, env: { ...process.env, ...env } })
      }
      const cores = () => readdirSync(cwd).filter((name) => name.startsWith('core'))
      sh('kill -SEGV $$')
      const [core] = cores()
      if (core === undefined) return t.skip('the system writes no core file to the current directory')
      unlinkSync(join(cwd, core))
      const { signal } = sh(`exec ${shell(['run', '--', '/bin/sh', '-c', 'kill -SEGV $$'])}`)
      assert.equal(signal, 'SIGSEGV')
      assert.equal(cores().length, 1)
      assert.ok(statSync(join(cwd, cores()[0] ?? '')).size < 10_000_000, 'it is not one of Node.js')
    }),
  )
}

test(
  'run as process 1 exits with 128 + N',
  knownFailure({ runtime: 'deno', why: 'Deno crashes as process 1', sometimes: true }, (t) => {
    const cwd = directory(t)
    const within = ['--pid', '--fork', '--mount-proc', ...[process.execPath, bin, 'run', '--']]
    const started = spawnSync('unshare', ['--pid', '--fork', '--mount-proc', 'true'], { encoding: 'utf8' })
    if (started.status !== 0) return t.skip(`there is no pid namespace: ${started.stderr || started.error}`)
    for (const [signal, code] of [
      ['TERM', 143],
      ['SEGV', 139],
    ] as const) {
      const { status } = spawnSync('unshare', [...within, 'sh', '-c', `kill -${signal} $$`], { cwd })
      assert.equal(status, code)
    }
  }),
)

test(
  'run as process 1 does not wait for zombies',
  knownFailure({ runtime: 'deno', why: 'Deno crashes as process 1', sometimes: true }, (t) => {
    const cwd = directory(t)
    const within = ['--pid', '--fork', '--mount-proc', '--kill-child']
    const tried = spawnSync('unshare', [...within, 'true'], { encoding: 'utf8' })
    if (tried.status !== 0) return t.skip(`there is no pid namespace: ${tried.stderr || tried.error}`)
    const command = ['sh', '-c', 'sleep 60 & rm .xero-reconcile-lock.json; wait']
    const args = [...within, process.execPath, bin, 'run', '--', ...command]
    const { status, stderr } = spawnSync('unshare', args, {
      cwd,
      encoding: 'utf8',
      timeout: 30_000,
      killSignal: 'SIGKILL',
    })
    assert.equal(status, 74, stderr)
    assert.doesNotMatch(stderr, /SIGKILL/)
  }),
)

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR2'] as const) {
  test(`${signal} ends a wait without acquiring`, async (t) => {
    const cwd = directory(t)
    const lock = acquireLockSync(cwd)
    const waiting = new Running(t, cwd, ['run', '--wait', 'forever', '--', 'touch', 'ran'])
    await until(() => waits(waiting.child.pid), 'run waits')
    send(waiting.child, signal)
    const ended = await waiting.ends()
    assert.deepEqual([ended.signal, ended.stderr], [signal, ''])
    assert.equal(lock.isHeld(), true)
    lock.releaseSync()
    assert.equal(inspectLockSync(cwd).state, 'free')
    assert.equal(existsSync(join(cwd, 'ran')), false)
  })
}

test(
  'a wait continues after SIGWINCH and SIGCONT',
  knownFailure(wrongEnd, async (t) => {
    const cwd = directory(t)
    const lock = acquireLockSync(cwd)
    const waiting = new Running(t, cwd, ['run', '--wait', 'forever', '--', 'echo', 'ran'])
    await until(() => waits(waiting.child.pid), 'run waits')
    for (const signal of ['SIGWINCH', 'SIGCONT'] as const) send(waiting.child, signal)
    lock.releaseSync()
    assert.deepEqual(await waiting.ends(), { code: 0, signal: null, stdout: 'ran\n', stderr: '' })
  }),
)

test('nohup has an effect after run, and none before it', async (t) => {
  const cwd = directory(t)
  const started = (name: string) =>
    `echo $$ > ${name}; until test -e end; do sleep 0.05; done; touch ended-${name}`
  const before = new Running(t, cwd, ['run', 'f', 'sh', '-c', started('before')], ['nohup'])
  const after = new Running(t, cwd, ['run', 'g', 'nohup', 'sh', '-c', started('after')])
  for (const name of ['before', 'after']) await until(() => read(join(cwd, name)) !== '', `${name} runs`)
  for (const { child } of [before, after]) send(child, 'SIGHUP')
  assert.equal((await before.ends()).signal, 'SIGHUP')
  writeFileSync(join(cwd, 'end'), '')
  assert.equal((await after.ends()).code, 0)
  assert.deepEqual(
    ['before', 'after'].map((name) => existsSync(join(cwd, `ended-${name}`))),
    [false, true],
  )
})

test('SIGTSTP stops and SIGCONT continues run and its command', async (t) => {
  const cwd = directory(t)
  // The kernel does not stop an orphaned process group, so a shell starts this one.
  const job = shell(['run', '--', 'sh', '-c', 'echo $$ > command; exec sleep 60'])
  const script = `set -m; ${job} & echo $! > wrapper; read end`
  const bash = spawn('bash', ['-c', script], { cwd, detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  // Stored, because the files are removed before the clean-up of the test.
  const pids: Record<string, number> = {}
  const pidIn = (name: string): number => (pids[name] ||= Number(read(join(cwd, name))))
  t.after(() => {
    bash.kill('SIGKILL')
    for (const name of Object.keys(pids)) if (existsSync(`/proc/${pidIn(name)}`)) kill(name, 'SIGKILL')
  })
  const kill = (name: string, signal: NodeJS.Signals) => process.kill(pidIn(name), signal)
  const states = () => ['wrapper', 'command'].map((name) => processState(pidIn(name)))
  await until(() => pidIn('wrapper') > 0 && pidIn('command') > 0, 'both run')
  for (const _ of [1, 2]) {
    kill('wrapper', 'SIGTSTP')
    await until(() => states().every((state) => state === 'T'), 'both are stopped')
    assert.equal(inspectLockSync(cwd).state, 'held')
    kill('wrapper', 'SIGCONT')
    await until(() => states().every((state) => state !== 'T'), 'both continue')
  }
  kill('wrapper', 'SIGTERM')
  await until(() => inspectLockSync(cwd).state === 'free', 'the lock is released')
})

test(
  'a SIGTSTP followed by SIGCONT stops no process',
  knownFailure(
    (['bun', 'deno'] as const).map((runtime) => ({
      runtime,
      why: 'the listeners of two signals are called in arrival order, with time between them',
      sometimes: true as const,
    })),
    async (t) => {
      const cwd = directory(t)
      // Linux calls the handler of a signal to the own process before kill(2) returns, so the order of both is certain.
      const early = `
    const { existsSync } = require('node:fs')
    const processes = require('node:child_process')
    const { spawn } = processes
    processes.spawn = (...args) => {
      const child = spawn(...args)
      while (!existsSync('pid'));
      for (const signal of ['SIGTSTP', 'SIGCONT']) process.kill(process.pid, signal)
      return child
    }`
      writeFileSync(join(cwd, 'early.cjs'), early)
      const listener = new Listener(cwd, ['SIGTSTP', 'SIGCONT', 'SIGTERM'])
      const within = ['env', `NODE_OPTIONS=--require=${join(cwd, 'early.cjs')}`]
      const running = new Running(t, cwd, ['run', '--', ...listener.command], within)
      const pid = await listener.pid()
      t.after(() => existsSync(`/proc/${pid}`) && process.kill(pid, 'SIGKILL'))
      await until(() => listener.received() !== '', 'the wrapper passes on the signal that it caught')
      send(running.child, 'SIGTERM')
      await listener.receives('SIGCONT,SIGTERM')
      writeFileSync(join(cwd, 'end'), '')
      assert.equal((await running.ends()).code, 9)
    },
  ),
)

/** Makes a set-user-ID program of root. If that is not possible, skips the test and returns `undefined`. */
function becomesRoot(t: TestContext, cwd: string): string | undefined {
  if (process.getuid?.() !== 0) return void t.skip('only root can make a program that becomes root')
  const path = join(cwd, 'setpriv')
  copyFileSync(execFileSync('which', ['setpriv'], { encoding: 'utf8' }).trim(), path)
  chmodSync(path, 0o4755)
  const tried = spawnSync('setpriv', [...asNobody, path, '--reuid', '0', 'id', '-ru'], { encoding: 'utf8' })
  if (tried.stdout?.trim() === '0') return path
  return void t.skip(`no program can become root here: ${tried.stderr?.trim() || tried.error}`)
}
const asNobody = ['--reuid', '65534', '--regid', '65534', '--clear-groups']

test('run holds the lock if it cannot signal the command', async (t) => {
  const cwd = directory(t)
  const root = becomesRoot(t, cwd)
  if (root === undefined) return
  chmodSync(cwd, 0o777)
  const listener = new Listener(cwd, ['SIGTERM'])
  const command = [root, '--reuid', '0', ...listener.command]
  const running = new Running(t, cwd, ['run', '--', ...command], ['setpriv', ...asNobody], publicProgram())
  const pid = await listener.pid()
  t.after(() => existsSync(`/proc/${pid}`) && process.kill(pid, 'SIGKILL'))
  const refusal = `reconcile-lock: cannot send SIGTERM to process group ${pid}: operation not permitted\n`
  for (const times of [1, 2]) {
    send(running.child, 'SIGTERM')
    await until(() => running.stderr === refusal.repeat(times), `refused ${times} times`)
    assert.equal(inspectLockSync(cwd).state, 'held')
  }
  writeFileSync(join(cwd, 'end'), '')
  assert.equal((await running.ends()).code, 9)
  assert.equal(listener.received(), '')
  assert.equal(inspectLockSync(cwd).state, 'free')
})

test(
  'run passes on a signal without /proc',
  knownFailure(
    [
      { runtime: 'deno', why: 'Deno does not start without /proc' },
      { runtime: 'bun', why: 'Bun does not start the command without /proc' },
      { platform: 'qemu', why: 'qemu does not end without /proc' },
    ],
    async (t) => {
      const [command = '', ...args] = hideProc
      const tried = spawnSync(command, [...args, 'true'], { encoding: 'utf8' })
      if (tried.status !== 0)
        return t.skip(`/proc cannot be hidden here: ${tried.stderr?.trim() || tried.error}`)
      const cwd = directory(t)
      const running = new Running(t, cwd, ['run', '--', 'sh', '-c', 'touch ready; exec sleep 30'], hideProc)
      await until(exists(join(cwd, 'ready')), 'the command runs')
      send(running.child, 'SIGINT')
      const { signal, stderr } = await running.ends()
      assert.deepEqual([signal, stderr], ['SIGINT', ''])
    },
  ),
)

/** A shell, and in its group a process that SIGTERM does not end; that ends if the file `end` exists. */
const group = (script: string) => [
  'sh',
  '-c',
  `echo $$ > shell; ${script}`,
  `trap 'touch finishing' TERM
    touch ready; until test -e end || ! test -e "$PWD"; do sleep 0.05; done`,
]

/** Waits until the shell of `group` has ended, and longer than `run` takes to notice that. */
async function shellEnds(cwd: string): Promise<void> {
  await until(exists(join(cwd, 'finishing')), 'the other process has got SIGTERM')
  await until(() => !existsSync(`/proc/${read(join(cwd, 'shell')).trim()}`), 'the shell has ended')
  await sleep(300, 'run would release the lock by then')
}

test("run holds the lock until the command's group has ended", async (t) => {
  const cwd = directory(t)
  const running = new Running(t, cwd, ['run', '--', ...group('sh -c "$0" | cat')], ['setsid'])
  await until(exists(join(cwd, 'ready')), 'the command runs')
  send(running.child, 'SIGTERM')
  await shellEnds(cwd)
  assert.equal(inspectLockSync(cwd).state, 'held')
  writeFileSync(join(cwd, 'end'), '')
  assert.equal((await running.ends()).signal, 'SIGTERM')
  assert.equal(inspectLockSync(cwd).state, 'free')
})

test('run awaits the group after a loss without SIGKILL', async (t) => {
  const cwd = directory(t)
  const command = group('trap "exit 0" TERM; sh -c "$0" & wait')
  const running = new Running(t, cwd, ['run', '--kill-after', 'forever', '--', ...command], ['setsid'])
  await until(exists(join(cwd, 'ready')), 'the command runs')
  unlinkSync(resolveLockPath(cwd))
  await shellEnds(cwd)
  assert.equal(running.child.exitCode, null)
  writeFileSync(join(cwd, 'end'), '')
  assert.equal((await running.ends()).code, 74)
})

test('run holds the lock for a process of another user', async (t) => {
  const cwd = directory(t)
  const root = becomesRoot(t, cwd)
  if (root === undefined) return
  chmodSync(cwd, 0o777)
  const inner = 'touch ready; until test -e end || ! test -e "$PWD"; do sleep 0.05; done'
  const command = ['sh', '-c', '"$@"; true', 'sh', root, '--reuid', '0', 'sh', '-c', inner]
  const running = new Running(t, cwd, ['run', '--', ...command], ['setpriv', ...asNobody], publicProgram())
  await until(exists(join(cwd, 'ready')), 'the command runs')
  send(running.child, 'SIGTERM')
  await sleep(500, 'run would release the lock by then')
  assert.equal(inspectLockSync(cwd).state, 'held')
  writeFileSync(join(cwd, 'end'), '')
  assert.equal((await running.ends()).signal, 'SIGTERM')
})

test('SIGUSR1 reaches the command alone without a terminal', async (t) => {
  const cwd = directory(t)
  const script = `trap 'touch got' USR1
    sh -c 'touch ready; exec sleep 1' && touch slept || touch interrupted`
  const running = new Running(t, cwd, ['run', '--', 'sh', '-c', script], ['setsid'])
  await until(exists(join(cwd, 'ready')), 'the command runs')
  send(running.child, 'SIGUSR1')
  assert.equal((await running.ends()).code, 0)
  assert.deepEqual(
    ['got', 'slept', 'interrupted'].map((name) => existsSync(join(cwd, name))),
    [true, true, false],
  )
})
