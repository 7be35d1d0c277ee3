// Descriptors that run out during a wait.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { acquireLockSync, resolveLockPath } from 'reconcile-lock'
import { directory } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { written } from '../support/program.mjs'
import { attach, cannotAttach } from '../support/strace.mjs'
import { sleep } from '../support/time.mjs'
import { Waiter } from '../support/waiter.mjs'

const short: KnownFailure = { runtime: 'deno', why: 'Deno panics if it has no descriptor' }
const threads: KnownFailure[] = [
  { runtime: 'deno', why: 'Deno ends if the system refuses it a thread' },
  { runtime: 'bun', sometimes: true, why: 'Bun aborts if the system refuses it a thread' },
]

/** Starts a program that prints one answer at a time. */
function begin(t: TestContext, cwd: string, body: string) {
  const say = "const say = (what) => process.stdout.write(JSON.stringify(what) + '\\n')"
  const child = spawn(process.execPath, [written(t, cwd, `${say}\n${body}`)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  t.after(() => child.exitCode === null && child.kill('SIGKILL'))
  const ended = once(child, 'exit').then(([code, signal]) => signal ?? code)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    child,
    answer: async () => {
      const { done, value } = await lines.next()
      if (done) assert.fail(`the program ended: ${await ended}`)
      return JSON.parse(value)
    },
    go: () => child.stdin.end('go\n'),
    /** Sets its limit of descriptors. */
    limit: (files: number) => execFileSync('prlimit', ['--pid', String(child.pid), `--nofile=${files}:`]),
  }
}

test('a waiter retries while descriptors are short', async (t) => {
  const cwd = directory(t)
  const lock = acquireLockSync(cwd)
  const program = begin(
    t,
    cwd,
    `lock.acquireLock({ cwd, timeout: 30_000, onWait: () => say('waits') })
      .then((mine) => { say('acquired'); return mine.release() })
      .catch((error) => say(error.code))`,
  )
  assert.equal(await program.answer(), 'waits')
  program.limit(5)
  await lock.release()
  await sleep(100, 'attempts fail with EMFILE')
  program.limit(1024)
  assert.equal(await program.answer(), 'acquired')
})

test('a call behind a waiter retries while descriptors are short', async (t) => {
  const cwd = directory(t)
  const lock = acquireLockSync(cwd)
  const program = begin(
    t,
    cwd,
    `lock.acquireLock({ cwd, timeout: 30_000, onWait: () => say('waits') }).then((mine) => mine.release())
    process.stdin.once('data', () => lock.acquireLock({ cwd, timeout: 30_000, onWait: () => say('waits too') })
      .then((mine) => { say('acquired'); return mine.release() })
      .catch((error) => say(error.code)))`,
  )
  assert.equal(await program.answer(), 'waits')
  program.limit(5)
  program.go()
  assert.equal(await program.answer(), 'waits too')
  program.limit(1024)
  await lock.release()
  assert.equal(await program.answer(), 'acquired')
})

test('records are complete after a shortage at the first call', async (t) => {
  const program = begin(
    t,
    directory(t),
    `const fs = require('node:fs')
      const open = []
      try { for (;;) open.push(fs.openSync('/dev/null')) } catch {}
      let code
      try { lock.acquireLockSync(cwd) } catch (error) { code = error.code }
      for (const file of open) fs.closeSync(file)
      const { path } = lock.acquireLockSync(cwd)
      say([code, Object.keys(JSON.parse(fs.readFileSync(path, 'utf8')))])`,
  )
  program.limit(64)
  const [code, keys] = await program.answer()
  assert.equal(code, 'EMFILE')
  for (const key of ['bootId', 'startTime', 'pidNs']) assert.ok(keys.includes(key), `${keys}`)
})

const skip = await cannotAttach()

for (const code of ['ENFILE', 'ENOMEM']) {
  test(`a waiter retries after ${code}`, { skip }, async (t) => {
    const cwd = directory(t)
    const log = join(directory(t), 'log')
    const lock = acquireLockSync(cwd)
    const waiter = new Waiter(t)
    const { outcome } = await waiter.begin({ cwd })
    // Once for each thread: a call that strace is detached from while it injects an error fails with ENOSYS.
    const inject = ['-e', 'trace=openat', '-e', `inject=openat:error=${code}:when=1`]
    const detach = await attach(waiter.pid, ['-f', '-o', log, '-P', lock.path, ...inject])
    await lock.release()
    assert.equal((await outcome).ok, true)
    await detach()
    assert.ok(readFileSync(log, 'utf8').includes(`${code} `), 'an attempt failed')
  })
}

test(
  'a lock that no thread can watch is acquired',
  { skip },
  knownFailure(threads, async (t) => {
    const cwd = directory(t)
    const program = begin(
      t,
      cwd,
      `require('node:diagnostics_channel').subscribe('reconcile-lock:lost', () => say('lost'))
    process.on('warning', ({ message }) => say(message))
    process.stdin.once('data', () => {
      try {
        const held = lock.acquireLockSync(cwd)
        process.on('SIGUSR2', () => held.signal)
        say(held.isHeld())
        try {
          held.signal
        } catch ({ code, syscall, path }) {
          say([code, syscall, path])
        }
      } catch (error) {
        say(error.message)
      }
    })
    setInterval(() => {}, 1000)
    say('ready')`,
    )
    assert.equal(await program.answer(), 'ready')
    // Refuses only the main thread: the runtime's own threads may start others at any time.
    const inject = ['-e', 'trace=clone,clone3', '-e', 'inject=clone,clone3:error=EAGAIN']
    const detach = await attach(program.child.pid, ['-o', join(directory(t), 'log'), ...inject])
    program.go()
    assert.equal(await program.answer(), true)
    assert.deepEqual(await program.answer(), ['EAGAIN', 'pthread_create', resolveLockPath(cwd)])
    assert.match(await program.answer(), /temporarily unavailable/)
    await detach()
    // The next use of its signal watches it.
    program.child.kill('SIGUSR2')
    rmSync(resolveLockPath(cwd))
    assert.equal(await program.answer(), 'lost')
  }),
)

test(
  'a wait without descriptors times out with EMFILE',
  knownFailure(short, async (t) => {
    const cwd = directory(t)
    const lock = acquireLockSync(cwd)
    const program = begin(
      t,
      cwd,
      `const started = performance.now()
    lock.acquireLock({ cwd, timeout: 700, onWait: () => say('waits') })
      .catch((error) => say([error.code, error.syscall, performance.now() - started]))`,
    )
    assert.equal(await program.answer(), 'waits')
    program.limit(5)
    await lock.release()
    const [code, syscall, milliseconds] = await program.answer()
    assert.deepEqual([code, syscall], ['EMFILE', 'open'])
    assert.ok(milliseconds >= 700, `${milliseconds} ms`)
  }),
)

test('each awaited path needs one descriptor', async (t) => {
  const root = directory(t)
  const many = Array.from({ length: 200 }, (_, index) => `${root}/${index}`)
  for (const cwd of many) mkdirSync(cwd)
  const locks = many.map((cwd) => acquireLockSync(cwd))
  const program = begin(
    t,
    root,
    `const { readdirSync } = require('node:fs')
    const before = readdirSync('/proc/self/fd').length
    let waiting = 0
    const onWait = () => {
      waiting += 1
      // During an attempt it has more.
      if (waiting === 200) setTimeout(() => say(readdirSync('/proc/self/fd').length - before), 500)
    }
    const waits = Array.from({ length: 200 }, (_, index) =>
      lock.acquireLock({ cwd: cwd + '/' + index, timeout: 30_000, onWait }).then((mine) => mine.release()))
    Promise.allSettled(waits).then((all) => say(all.filter(({ status }) => status === 'rejected').length))`,
  )
  program.limit(512)
  // The waiting thread has an eventfd, an inotify instance and the holder's pidfd.
  const descriptors = await program.answer()
  assert.ok(descriptors >= 3 && descriptors <= 210, `${descriptors} descriptors for 200 paths`)
  for (const lock of locks) lock.releaseSync()
  assert.equal(await program.answer(), 0)
})
