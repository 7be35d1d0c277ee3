import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { acquireLock, acquireLockSync, type Holder, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { send } from '../support/child.mjs'
import { directory, rejection } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { begun, ended, written } from '../support/program.mjs'

const noExitFunction: KnownFailure = {
  runtime: 'bun',
  why: 'Bun ends without exit(3), so a lock that the exit listeners did not release stays as a stale file',
}
const noExitListeners: KnownFailure = {
  runtime: 'deno',
  why: 'Deno calls no exit listener after an uncaught error, and ends without exit(3)',
}

/** Known failures, by the way in which the process ends. */
const failures: Record<string, KnownFailure[]> = {
  'exit in an earlier listener': [noExitFunction],
  'removal of all exit listeners': [noExitFunction],
  'a throwing uncaughtException listener': [noExitListeners],
}
const lateFailures: Record<string, KnownFailure[]> = {
  'process.exit': [noExitFunction],
  'uncaught error': [noExitFunction, noExitListeners],
}

const LOCKS = `
  const other = lock.acquireLockSync({ cwd, file: 'other.lock' })
  lock.acquireLock(cwd).then((mine) => {`

for (const [how, body, code] of [
  ['process.exit', 'process.exit(3)', 3],
  ['a natural end', '', 0],
  ['an uncaught error', "throw new Error('on purpose')", 1],
  ['an error in a timer', "setTimeout(() => { throw new Error('on purpose') })", 1],
  ['an unhandled rejection', "Promise.reject(new Error('on purpose'))", 1],
  ['an exit within an exit', "process.on('exit', () => process.exit(4)); process.exit(3)", 4],
  ['exit in an earlier listener', "process.prependListener('exit', () => process.exit(4))", 4],
  [
    'error in an earlier listener',
    "process.prependListener('exit', () => { throw new Error('on purpose') }); process.exit(3)",
    undefined,
  ],
  [
    'a throwing uncaughtException listener',
    "process.on('uncaughtException', () => { throw new Error('again') }); setTimeout(() => { throw new Error('once') })",
    7,
  ],
  ['removal of all exit listeners', "process.removeAllListeners('exit'); process.exit(3)", 3],
  [
    'exit in a signal handler',
    "process.on('SIGTERM', () => process.exit(6)); process.kill(process.pid); setInterval(() => {}, 1e6)",
    6,
  ],
  ['exit before an acquire settles', "lock.acquireLock({ cwd, file: 'third.lock' }); process.exit(5)", 5],
] as const) {
  test(
    `lock files are removed after ${how}`,
    knownFailure(failures[how] ?? [], (t) => {
      const cwd = directory(t)
      const end = ended(t, cwd, `${LOCKS} ${body} })`)
      assert.equal(end.signal, null)
      if (code === undefined) assert.notEqual(end.code, 0)
      else assert.equal(end.code, code, end.stderr)
      if (body.includes('on purpose')) assert.match(end.stderr, /on purpose/)
      assert.deepEqual(
        readdirSync(cwd).filter((name) => name !== 'third.lock'),
        [],
      )
      const lock = acquireLockSync(cwd)
      assert.equal(lock.takenOver, undefined)
      lock.releaseSync()
    }),
  )
}

for (const [how, body, code] of [
  ['natural end', '', 0],
  ['process.exit', 'process.exit(3)', 3],
  ['uncaught error', "throw new Error('on purpose')", 1],
] as const) {
  for (const first of ['', "lock.acquireLockSync({ cwd, file: 'first.lock' });"]) {
    test(
      `a ${first ? 'second' : 'first'} lock acquired during exit is removed: ${how}`,
      knownFailure(lateFailures[how] ?? [], (t) => {
        const cwd = directory(t)
        const late = "process.on('exit', () => console.log(lock.acquireLockSync(cwd).isHeld()))"
        const end = ended(t, cwd, `${first} ${late}; ${body}`)
        assert.deepEqual([end.code, end.stdout], [code, 'true\n'], end.stderr)
        assert.deepEqual(readdirSync(cwd), [])
      }),
    )
  }
}

const noFrozenProcess: KnownFailure = { runtime: 'deno', why: 'Deno itself changes the process when it ends' }
for (const [when, early] of [
  ['before the first acquire', ''],
  ['while a lock is held', "const early = lock.acquireLockSync({ cwd, file: 'early.lock' })"],
] as const)
  test(
    `locks work in a process that is frozen ${when}`,
    knownFailure(noFrozenProcess, (t) => {
      const cwd = directory(t)
      const body = `
        ${early}
        Object.freeze(process)
        ${early && 'early.releaseSync()'}
        lock.acquireLockSync(cwd).releaseSync()
        lock.acquireLock(cwd).then(async (first) => {
          await first.release()
          const second = lock.acquireLockSync(cwd)
          console.log(second.isHeld())
        })`
      const end = ended(t, cwd, body)
      assert.deepEqual([end.code, end.stdout, end.stderr], [0, 'true\n', ''])
      assert.deepEqual(readdirSync(cwd), [])
    }),
  )

test('exit listeners added before the acquire run under it', (t) => {
  const cwd = directory(t)
  const body = `
    process.on('exit', () => console.log(mine.isHeld()))
    const mine = lock.acquireLockSync(cwd)
    process.on('exit', () => console.log(mine.isHeld()))`
  const end = ended(t, cwd, body)
  assert.deepEqual([end.code, end.stdout, end.stderr], [0, 'true\nfalse\n', ''])
})

test('later exit listeners find no file and may release', (t) => {
  const cwd = directory(t)
  const body = `
    const { readdirSync } = require('node:fs')
    const mine = lock.acquireLockSync(cwd)
    process.on('exit', () => {
      console.log(readdirSync(cwd).length, mine.isHeld())
      mine.releaseSync()
      lock.releaseLockSync(cwd)
    })`
  const end = ended(t, cwd, body)
  assert.deepEqual([end.code, end.stdout, end.stderr], [0, '0 false\n', ''])
})

test('a process takes over its stale lock after execve', async (t) => {
  const cwd = directory(t)
  const path = resolveLockPath({ cwd })
  const lock = acquireLockSync(cwd)
  const record = JSON.parse(readFileSync(path, 'utf8'))
  lock.releaseSync()
  // execve(2) keeps the pid and the start time, and closes the lock file.
  writeFileSync(path, '')
  const { dev, ino } = statSync(path, { bigint: true })
  writeFileSync(path, JSON.stringify({ ...record, file: `${dev}:${ino}` }))
  assert.equal(inspectLockSync({ cwd }).state, 'stale')
  const next = await acquireLock(cwd)
  assert.equal(next.takenOver?.holder?.pid, process.pid)
  assert.match(next.takenOver.reason, /did not release the lock/)
  assert.throws(() => acquireLockSync(cwd), { code: 'E_LOCK_CONTENTION' })
  await next.release()
})

test('a handled error does not release the lock', async (t) => {
  const cwd = directory(t)
  const body = `
    lock.acquireLockSync(cwd)
    process.on('uncaughtException', (error) => console.log(error.message))
    setInterval(() => {}, 1e6)
    throw new Error('on purpose')`
  const [child, line] = await begun(t, cwd, body)
  assert.equal(line, 'on purpose')
  const error = await rejection(acquireLock(cwd))
  assert.deepEqual([error.code, (error.holder as Holder).pid], ['E_LOCK_CONTENTION', child.pid])
})

test('exit does not remove the file of the next holder', async (t) => {
  const cwd = directory(t)
  const [child] = await begun(
    t,
    cwd,
    `lock.acquireLockSync(cwd); process.on('SIGUSR2', () => process.exit(3)); console.log(1); setInterval(() => {}, 1e6)`,
  )
  rmSync(resolveLockPath(cwd))
  const next = acquireLockSync(cwd)
  const exit = once(child, 'exit')
  send(child, 'SIGUSR2')
  assert.deepEqual(await exit, [3, null])
  assert.equal(next.isHeld(), true)
  next.releaseSync()
})

for (const [signal, how] of [
  ['SIGINT', 'process.kill(process.pid, "SIGINT")'],
  ['SIGTERM', 'process.kill(process.pid, "SIGTERM")'],
  ['SIGHUP', 'process.kill(process.pid, "SIGHUP")'],
  ['SIGKILL', 'process.kill(process.pid, "SIGKILL")'],
  ['SIGABRT', 'process.abort()'],
] as const) {
  test(`${signal} ends the holder and leaves a stale lock`, async (t) => {
    const cwd = directory(t)
    const end = ended(t, cwd, `${LOCKS} ${how}; setTimeout(() => {}, 60_000) })`)
    assert.equal(end.signal, signal)
    const { state, holder, reason } = inspectLockSync(cwd)
    assert.equal(state, 'stale')
    assert.equal(reason, `process ${holder?.pid} ended without releasing`)
    const started = performance.now()
    const lock = await acquireLock(cwd)
    assert.ok(performance.now() - started < 1500)
    assert.equal(lock.takenOver?.holder?.pid, holder?.pid)
    await lock.release()
  })
}

test('an exit listener exists only while locks are in use', (t) => {
  const body = `
    const { rmSync } = require('node:fs')
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGPIPE']
    const events = [...signals, 'beforeExit', 'uncaughtException', 'unhandledRejection', 'disconnect']
    const seen = []
    const count = (what) => {
      const others = events.filter((name) => process.listenerCount(name) > 0)
      seen.push([what, process.listenerCount('exit'), ...others].join(' '))
    }
    const file = (name) => ({ cwd, file: name })
    async function main() {
      count('loaded')
      const one = lock.acquireLockSync(cwd)
      count('one')
      const two = await lock.acquireLock(file('two'))
      count('two')
      await lock.acquireLock(cwd).catch(() => count('refused'))
      const waiting = lock.acquireLock({ cwd, timeout: Infinity })
      one.releaseSync()
      one.releaseSync()
      count('one less')
      await two.release()
      count('wanted')
      const three = await waiting
      count('three')
      await lock.releaseLock(cwd)
      count('none')
      three.releaseSync()
      const lost = lock.acquireLockSync(cwd)
      rmSync(lost.path)
      count('lost')
      await lost.release().catch(() => count('known'))
      await lock.withLock(() => count('within'), cwd)
      const asked = lock.acquireLock({ cwd: cwd + '/missing' })
      count('asked')
      await asked.catch(() => count('failed'))
    }
    main().then(() => console.log(JSON.stringify(seen)))`
  const end = ended(t, directory(t), body)
  assert.deepEqual(JSON.parse(end.stdout), [
    'loaded 0',
    'one 1',
    'two 1',
    'refused 1',
    'one less 1',
    'wanted 1',
    'three 1',
    'none 0',
    'lost 1',
    'known 0',
    'within 1',
    'asked 1',
    'failed 0',
  ])
})

const withoutStrace = spawnSync('strace', ['-V']).status !== 0 && 'strace is not installed'

for (const call of ['acquireLock(cwd)', 'acquireLock({ cwd, timeout: 1000 })']) {
  test(
    `process.exit rolls back a pending ${call}`,
    { skip: withoutStrace },
    knownFailure(
      { runtime: 'deno', why: 'processes of Deno may end early under strace', sometimes: true },
      (t) => {
        const cwd = directory(t)
        const log = join(directory(t), 'log')
        const inject = ['-f', '-qq', '-o', log, '-e', 'trace=flock', '-e', 'inject=flock:delay_enter=3000']
        const rounds: { left: number; isTried: boolean }[] = []
        // An exit waits 25 ms for an attempt, which may begin later or take longer on a busy machine.
        const isRolledBack = () => rounds.some(({ left, isTried }) => left === 0 && isTried)
        while (rounds.length < 100 && !isRolledBack()) {
          const program = written(t, cwd, `lock.${call}.catch(() => {}); process.exit()`)
          const { status, stderr } = spawnSync('strace', [...inject, process.execPath, program], {
            encoding: 'utf8',
          })
          assert.equal(status, 0, stderr)
          const files = readdirSync(cwd)
          for (const file of files) rmSync(join(cwd, file))
          rounds.push({ left: files.length, isTried: readFileSync(log, 'utf8').includes('flock(') })
        }
        assert.ok(isRolledBack(), JSON.stringify(rounds))
      },
    ),
  )
}

for (const [what, call, sync, async] of [
  ['acquire', 'flock', 'acquireLockSync(cwd)', 'acquireLock(cwd)'],
  ['release', 'unlink,unlinkat', 'acquireLockSync(cwd).releaseSync()', 'acquireLockSync(cwd).release()'],
] as const)
  test(
    `process.exit waits for a pending ${what}`,
    { skip: withoutStrace },
    knownFailure(
      { runtime: 'deno', why: 'processes of Deno may end early under strace', sometimes: true },
      (t) => {
        const cwd = directory(t)
        const log = join(directory(t), 'log')
        const exits = (begin: string, inject: string[]) => {
          // The exit itself would make a release that has not begun, and prevents an acquire.
          const pause = 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)'
          const program = written(t, cwd, `lock.${begin}; ${pause}; process.exit()`)
          const options = ['-f', '-qq', '-ttt', '-o', log, '-e', `trace=${call},exit_group`, ...inject]
          const { status, stderr } = spawnSync('strace', [...options, process.execPath, program], {
            encoding: 'utf8',
          })
          assert.equal(status, 0, stderr)
          const files = readdirSync(cwd)
          for (const file of files) rmSync(join(cwd, file))
          const calls = readFileSync(log, 'utf8').matchAll(/^(\d+) +(\d+\.\d+) (flock|unlink|exit_group)/gm)
          const [first, exit] = Array.from(calls, ([, thread, time]) => ({ thread, at: Number(time) * 1e6 }))
          // On a busy machine the process can end before the call begins.
          const took = first && exit ? Math.round(exit.at - first.at) : 0
          return { left: files.length, took, isOwn: first?.thread === exit?.thread }
        }
        // Longer than the exit alone takes, and shorter than that plus the 25 ms for which it waits.
        const delay = Math.min(...Array.from({ length: 5 }, () => exits(sync, []).took)) + 12_000
        const inject = ['-e', `inject=${call}:delay_enter=${delay}`]
        const rounds: ReturnType<typeof exits>[] = []
        // On a busy machine the work can begin late, or take longer.
        const hasWaited = () => rounds.some(({ left, took, isOwn }) => left === 0 && took >= delay && !isOwn)
        while (rounds.length < 100 && !hasWaited()) rounds.push(exits(async, inject))
        assert.ok(hasWaited(), `with a delay of ${delay} us: ${JSON.stringify(rounds)}`)
      },
    ),
  )

test(
  'many locks leave no exit listener and no warning',
  knownFailure({ runtime: 'deno', why: 'Deno may have its own exit listener', sometimes: true }, (t) => {
    const body = `
    for (let pair = 0; pair < 1000; pair += 1) lock.acquireLockSync(cwd).releaseSync()
    const many = Array.from({ length: 50 }, (_, file) => lock.acquireLockSync({ cwd, file: String(file) }))
    for (const one of many) one.releaseSync()
    // The listener goes one turn later; a timer that is late fires before the immediates of its turn.
    setTimeout(() => setImmediate(() => console.log(process.listenerCount('exit'))))`
    const end = ended(t, directory(t), body)
    assert.deepEqual([end.code, end.stdout, end.stderr], [0, '0\n', ''])
  }),
)
