// A hanging disk, simulated by strace: calls on one lock file take three seconds.
import assert from 'node:assert/strict'
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLock, inspectLockSync, type Lock, resolveLockPath } from 'reconcile-lock'
import { bin, read } from '../support/cli.mjs'
import { directory } from '../support/directory.mjs'
import { written } from '../support/program.mjs'
import { attach, cannotAttach, isDelayed } from '../support/strace.mjs'
import { sleep, until } from '../support/time.mjs'
import { processState, Waiter } from '../support/waiter.mjs'
import { within } from '../support/within.mjs'

/** How long the disk hangs, and a bound far below that, in milliseconds. */
const HANG = 3000
const SOON = 1000

/** A waiter, and a directory whose lock file hangs for it from now on. */
async function hung(
  t: TestContext,
): Promise<{ waiter: Waiter; hanging: string; healthy: string; lock: Lock }> {
  const [hanging, healthy] = [directory(t), directory(t)]
  const waiter = new Waiter(t)
  const lock = await acquireLock(healthy)
  await waiter.wait({ cwd: healthy, timeout: 1 })
  await slow(t, waiter.pid, [resolveLockPath(hanging)], 'openat,newfstatat,statx,flock', HANG)
  return { waiter, hanging, healthy, lock }
}

/**
 * Delays these calls of a process on these paths by `ms` milliseconds; returns the log of strace, and a function that
 * waits for the end of one. A test that would also pass without a delay needs one of them.
 */
async function slow(
  t: TestContext,
  pid: number | undefined,
  paths: string[],
  calls: string,
  ms: number,
): Promise<{ log: string; delayed: () => Promise<boolean> }> {
  const log = join(directory(t), 'log')
  const named = paths.flatMap((path) => ['-P', path])
  const inject = ['-e', `trace=${calls}`, '-e', `inject=${calls}:delay_enter=${ms * 1000}`]
  const detach = await attach(pid, ['-f', '-o', log, ...named, ...inject])
  t.after(() => detach('SIGKILL'))
  return { log, delayed: () => until(() => isDelayed(log), `strace has delayed ${calls}`) }
}

const skip = await cannotAttach()

for (const form of ['async', 'sync'] as const) {
  test(`acquireLock times out on a hanging disk: ${form}`, { skip }, async (t) => {
    await within(SOON, async () => {
      const { waiter, hanging, lock } = await hung(t)
      const { ok, code, took } = await waiter.wait({ cwd: hanging, timeout: 300, form })
      assert.deepEqual([ok, code], [false, 'E_LOCK_CONTENTION'])
      assert.ok(took >= 299, `${took} ms`)
      await lock.release()
      return took
    })
  })
}

for (const form of ['async', 'sync'] as const) {
  test(`all slots have one deadline on a hanging disk: ${form}`, { skip }, async (t) => {
    // Each further attempt that does not end would take 25 ms.
    await within(1100, async () => {
      const cwd = directory(t)
      const waiter = new Waiter(t)
      await waiter.wait({ cwd: directory(t), timeout: 1 })
      const path = resolveLockPath(cwd)
      const slots = 60
      const paths = Array.from({ length: slots }, (_, slot) => (slot === 0 ? path : `${path}.slot${slot}`))
      await slow(t, waiter.pid, paths, 'openat,newfstatat,statx,flock', HANG)
      const { ok, code, took } = await waiter.wait({ cwd, slots, timeout: 300, form })
      assert.deepEqual([ok, code], [false, 'E_LOCK_CONTENTION'])
      assert.ok(took >= 299, `${took} ms`)
      return took
    })
  })
}

for (const form of ['async', 'sync'] as const) {
  test(`a slow disk hardly delays refusal by all slots: ${form}`, { skip }, async (t) => {
    const cwd = directory(t)
    const slots = 60
    const path = resolveLockPath(cwd)
    const paths = Array.from({ length: slots }, (_, slot) => (slot === 0 ? path : `${path}.slot${slot}`))
    const locks = await Promise.all(paths.map((file) => acquireLock({ file })))
    const waiter = new Waiter(t)
    await waiter.wait({ cwd: directory(t), timeout: 1 })
    await slow(t, waiter.pid, paths, 'openat', 20)
    // Attempts at all slots would take 1.2 s.
    await within(800, async () => {
      const { ok, reason, took } = await waiter.wait({ cwd, slots, timeout: 300, form })
      assert.deepEqual([ok, reason], [false, 'the filesystem has not answered'])
      return took
    })
    await Promise.all(locks.map((lock) => lock.release()))
  })
}

test('an abort ends a wait on a hanging disk', { skip }, async (t) => {
  await within(SOON, async () => {
    const { waiter, hanging, lock } = await hung(t)
    const { ok, took } = await waiter.wait({ cwd: hanging, timeout: 60_000, abortAfter: 100, form: 'async' })
    assert.equal(ok, false)
    await lock.release()
    return took
  })
})

for (const [end, wanted] of [
  ['times out', { timeout: 300 }],
  ['is aborted', { timeout: 60_000, abortAfter: 100 }],
] as const) {
  test(`a call that ${end} does not keep the process alive`, { skip }, async (t) => {
    await within(SOON, async () => {
      const { waiter, hanging, lock } = await hung(t)
      assert.equal((await waiter.wait({ cwd: hanging, ...wanted })).ok, false)
      const before = performance.now()
      waiter.ask({ do: 'disconnect' }).catch(() => {})
      // Its main thread; strace keeps the one that hangs.
      await until(() => processState(waiter.pid) === 'Z', 'its main thread has ended')
      const took = performance.now() - before
      await lock.release()
      return took
    })
  })
}

test('run times out on a hanging disk', { skip }, async (t) => {
  const cwd = directory(t)
  const place = join(cwd, 'l')
  const words = [process.execPath, bin, 'run', '--wait', '0.3', place, 'touch', join(cwd, 'ran')]
  const shell = spawn('sh', ['-c', 'read go; exec "$@"', 'sh', ...words], { stdio: 'pipe' })
  t.after(() => shell.kill('SIGKILL'))
  let said = ''
  shell.stderr.on('data', (text) => {
    said += text
  })
  await slow(t, shell.pid, [place], 'openat,newfstatat,statx', 10_000)
  const before = performance.now()
  shell.stdin.end('go\n')
  await until(() => processState(shell.pid ?? 0) === 'Z', 'its main thread has ended')
  assert.ok(performance.now() - before < 5000)
  assert.match(said, /^Another reconcile run is in progress\n/)
  assert.equal(existsSync(join(cwd, 'ran')), false)
})

test('a hanging disk does not delay other locks', { skip }, async (t) => {
  await within(SOON, async () => {
    const { waiter, hanging, healthy, lock } = await hung(t)
    const stuck = waiter.wait({ cwd: hanging, timeout: 60_000, form: 'async' })
    const late = waiter.wait({ cwd: healthy, timeout: 200, form: 'async' })
    const next = waiter.wait({ cwd: healthy, timeout: 60_000, form: 'async' })
    const { code, took } = await late
    assert.equal(code, 'E_LOCK_CONTENTION')
    await sleep(50, 'the lock is held for a while')
    const before = performance.now()
    await lock.release()
    assert.equal((await next).ok, true)
    const handOver = performance.now() - before
    const { ok, took: hungFor } = await stuck
    assert.ok(ok && hungFor >= HANG, `the disk hung for ${hungFor} ms`)
    return Math.max(took, handOver)
  })
})

for (const form of ['async', 'sync'] as const) {
  test(`acquireLock with timeout 1 acquires on a slow disk: ${form}`, { skip }, async (t) => {
    const cwd = directory(t)
    const waiter = new Waiter(t)
    await waiter.wait({ cwd: directory(t), timeout: 0 })
    await slow(t, waiter.pid, [resolveLockPath(cwd)], 'openat', 60)
    const { ok, took } = await waiter.wait({ cwd, timeout: 1, form })
    assert.ok(ok && took >= 60, `${took} ms`)
  })
}

for (const form of ['async', 'sync'] as const) {
  test(`a lock acquired after the timeout is rolled back: ${form}`, { skip }, async (t) => {
    const cwd = directory(t)
    const waiter = new Waiter(t)
    await waiter.wait({ cwd: directory(t), timeout: 0 })
    const { delayed } = await slow(t, waiter.pid, [resolveLockPath(cwd)], 'openat', 600)
    assert.equal((await waiter.wait({ cwd, timeout: 300, form })).code, 'E_LOCK_CONTENTION')
    await delayed()
    await until(() => inspectLockSync(cwd).state === 'free', 'the lock is free')
  })
}

test('a call that readers refuse leaves no lock file', { skip }, async (t) => {
  const file = join(directory(t), 'l')
  const reader = await acquireLock({ file, shared: true })
  const waiter = new Waiter(t)
  await waiter.wait({ cwd: directory(t), timeout: 0 })
  const { log } = await slow(t, waiter.pid, [dirname(file)], 'unlinkat', 10)
  const rollbacks = () => readFileSync(log, 'utf8').split('(DELAYED)').length
  const rounds: { isLeft: boolean; isTried: boolean }[] = []
  // An answer waits 25 ms for the rollback, which may take longer or begin later on a busy machine.
  const isRolledBack = () => rounds.some(({ isLeft, isTried }) => isTried && !isLeft)
  while (rounds.length < 100 && !isRolledBack()) {
    const before = rollbacks()
    const { code } = await waiter.wait({ file, timeout: 100 })
    assert.equal(code, 'E_LOCK_CONTENTION')
    rounds.push({ isLeft: existsSync(file), isTried: rollbacks() > before })
    await until(() => !existsSync(file), 'the path is free')
  }
  assert.ok(isRolledBack(), JSON.stringify(rounds))
  await reader.release()
})

for (const [role, left, timeout] of [
  ['creator', '', 0],
  ['successor', ' ', 5000],
] as const) {
  test(`a refusal names a ${role} that writes its record late`, {
    skip,
  }, async (t) => {
    const paths = Array.from({ length: 12 }, () => resolveLockPath(directory(t)))
    if (role === 'successor') for (const path of paths) await acquireLock(dirname(path))
    const waiter = new Waiter(t)
    await waiter.wait({ cwd: directory(t), timeout: 0 })
    const { delayed } = await slow(t, waiter.pid, paths, 'openat', 60)
    for (const path of paths) writeFileSync(path, left)
    const refused = paths.map((path) => waiter.wait({ cwd: dirname(path), timeout }))
    await sleep(400, 'the attempts are under way')
    for (const path of paths) {
      writeFileSync(path, JSON.stringify({ pid: process.pid, createdAt: 5 }))
      await sleep(20, 'each record is written at another point of its attempt')
    }
    for (const { holder } of await Promise.all(refused)) assert.equal(holder?.pid, process.pid)
    await delayed()
  })
}

test('a watched lock on a hanging disk delays no other', { skip }, async (t) => {
  await within(SOON, async () => {
    const cwd = directory(t)
    const body = `
    const held = lock.acquireLockSync({ cwd, file: 'hangs' })
    held.signal
    process.send(0)
    let longest = 0, last = performance.now()
    setInterval(() => {
      lock.acquireLockSync({ cwd, file: 'other' }).releaseSync()
      longest = Math.max(longest, performance.now() - last)
      last = performance.now()
    }, 10)
    process.on('message', () => process.send(longest))`
    const child = fork(written(t, cwd, body))
    t.after(() => child.kill('SIGKILL'))
    await once(child, 'message')
    const { delayed } = await slow(t, child.pid, [join(cwd, 'hangs')], 'fstat,newfstatat,statx', HANG)
    await sleep(1000, 'losses are checked four times a second')
    child.send(0)
    const [longest] = await once(child, 'message')
    await delayed()
    return longest
  })
})

/** A process that answers a message by what `body` sends; it has loaded the package as `lock`. */
async function program(t: TestContext, cwd: string, before: string, body: string): Promise<ChildProcess> {
  const script = `${before}\nprocess.send(0)\nprocess.on('message', async () => {\n${body}\n})`
  const child = fork(written(t, cwd, script))
  t.after(() => child.kill('SIGKILL'))
  await once(child, 'message')
  return child
}

async function answer(child: ChildProcess): Promise<unknown> {
  child.send(0)
  const [message] = await once(child, 'message')
  return message
}

test('a call without an answer keeps its directory', { skip }, async (t) => {
  const [here, there] = [directory(t), directory(t)]
  const body = `
    const pending = lock.acquireLock({ file: 'l', timeout: 300.9 })
    process.chdir(${JSON.stringify(there)})
    process.send(await pending.then(({ path }) => 'acquired ' + path, ({ path }) => path))`
  const child = await program(t, here, `process.chdir(${JSON.stringify(here)})`, body)
  await slow(t, child.pid, [join(here, 'l')], 'openat', HANG)
  assert.equal(await answer(child), join(here, 'l'))
})

test('releaseLock waits for a release that is under way', { skip }, async (t) => {
  const cwd = directory(t)
  const body = `
    held.release()
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
    await lock.releaseLock({ cwd, file: 'l' })
    process.send(require('node:fs').existsSync(held.path))`
  const child = await program(t, cwd, `const held = lock.acquireLockSync({ cwd, file: 'l' })`, body)
  const { delayed } = await slow(t, child.pid, [cwd], 'unlink,unlinkat', 500)
  assert.equal(await answer(child), false)
  await delayed()
})

test('a loss during a release is published by that release', { skip }, async (t) => {
  const cwd = directory(t)
  const before = `
    const held = lock.acquireLockSync({ cwd, file: 'l' })
    const events = []
    for (const name of ['released', 'lost'])
      require('node:diagnostics_channel').subscribe('reconcile-lock:' + name, () => events.push(name))`
  const body = `
    const first = held.release()
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50)
    held.releaseSync()
    await first.catch(() => {})
    process.send(events)`
  const child = await program(t, cwd, before, body)
  rmSync(join(cwd, 'l'))
  const { delayed } = await slow(t, child.pid, [cwd, join(cwd, 'l')], 'newfstatat,statx', 500)
  assert.deepEqual(await answer(child), ['lost'])
  await delayed()
})

test('withLock is refused while a disk delays the rollback', { skip }, async (t) => {
  const body = `
    const started = performance.now()
    const call = lock.withLock(() => {}, [{ file: 'a' }, { file: 'b' }], { cwd, timeout: 300 })
    process.send(await call.catch(({ code }) => [code, performance.now() - started]))`
  await within(SOON, async () => {
    const cwd = directory(t)
    const lock = await acquireLock({ cwd, file: 'b' })
    const child = await program(t, cwd, '', body)
    const { delayed } = await slow(t, child.pid, [cwd], 'unlink,unlinkat', HANG)
    const [code, took] = (await answer(child)) as [string, number]
    assert.equal(code, 'E_LOCK_CONTENTION')
    await delayed()
    await lock.release()
    return took
  })
})

test('a held lock on a hanging disk allows the exit', { skip }, async (t) => {
  const [healthy, hanging] = [directory(t), directory(t)]
  const before = `
    require('node:diagnostics_channel').subscribe('reconcile-lock:released', () => {})
    for (const cwd of ${JSON.stringify([hanging, healthy])}) lock.acquireLockSync(cwd)`
  const child = await program(t, hanging, before, 'process.exit()')
  await slow(t, child.pid, [hanging], 'unlink,unlinkat', HANG)
  const started = performance.now()
  child.send(0)
  // Its main thread; strace keeps the one that hangs.
  await until(() => processState(child.pid ?? 0) === 'Z', 'its main thread has ended')
  const took = performance.now() - started
  assert.ok(took >= 999 && took < HANG / 2, `${took} ms`)
  assert.equal(inspectLockSync(healthy).state, 'free')
})

test('a rollback at the exit is published as a release', { skip }, async (t) => {
  const cwd = directory(t)
  const lock = await acquireLock({ cwd, file: 'b' })
  const log = join(cwd, 'log')
  const before = `
    const { appendFileSync } = require('node:fs')
    for (const name of ['released', 'lost'])
      require('node:diagnostics_channel').subscribe('reconcile-lock:' + name, ({ path }) =>
        appendFileSync(${JSON.stringify(log)}, name + path.at(-1)))`
  const body = `
    await lock.withLock(() => {}, [{ file: 'a' }, { file: 'b' }], { cwd, timeout: 300 }).catch(() => {})
    process.exit()`
  const child = await program(t, cwd, before, body)
  await slow(t, child.pid, [cwd], 'unlink,unlinkat', HANG)
  child.send(0)
  await until(() => read(log) !== '', 'the exit has published it')
  assert.equal(read(log), 'releaseda')
  await lock.release()
})

test('withLock releases a lock while another one hangs', { skip }, async (t) => {
  const cwd = directory(t)
  const [healthy, hanging] = [join(cwd, 'a'), join(cwd, 'b')]
  for (const each of [healthy, hanging]) mkdirSync(each)
  const body = `await lock.withLock(() => process.send(0), ${JSON.stringify([healthy, hanging])})`
  const child = await program(t, cwd, '', body)
  const { delayed } = await slow(t, child.pid, [hanging], 'unlink,unlinkat', HANG)
  await answer(child)
  await until(() => inspectLockSync(healthy).state === 'free', 'the healthy one is released')
  assert.equal(inspectLockSync(hanging).state, 'held')
  await delayed()
})

for (const [ending, options, code] of [
  ['times out', '{ timeout: 300 }', 'E_LOCK_CONTENTION'],
  ['is aborted', '{ timeout: 60_000, signal: AbortSignal.timeout(300) }', 'TimeoutError'],
] as const) {
  test(`withLock ${ending} while a directory hangs`, { skip }, async (t) => {
    const cwd = directory(t)
    const [healthy, hanging] = [join(cwd, 'a'), join(cwd, 'b')]
    for (const each of [healthy, hanging]) mkdirSync(each)
    const body = `
      const started = performance.now()
      const all = ${JSON.stringify([healthy, hanging])}
      const { code, name } = await lock.withLock(() => ({}), all, ${options}).catch((error) => error)
      process.send({ ended: typeof code === 'string' ? code : name, took: performance.now() - started })`
    const atEnd = `process.on('beforeExit', () => require('node:fs').writeFileSync('${join(cwd, 'ends')}', ''))`
    const child = await program(t, cwd, atEnd, body)
    const started = performance.now()
    await slow(t, child.pid, [hanging, resolveLockPath(hanging)], 'openat,readlink,newfstatat,statx', HANG)
    const { ended, took } = (await answer(child)) as { ended: string; took: number }
    assert.equal(ended, code)
    assert.ok(took >= 299 && took < HANG / 2, `${took} ms`)
    await until(() => inspectLockSync(healthy).state === 'free', 'the healthy one is rolled back')
    child.disconnect()
    await until(
      () => existsSync(join(cwd, 'ends')),
      'a call without an answer does not keep the process alive',
    )
    assert.ok(performance.now() - started < HANG)
  })
}

test('withLock without a timeout waits for a slow directory', { skip }, async (t) => {
  const cwd = directory(t)
  const all = [join(cwd, 'a'), join(cwd, 'b')]
  for (const each of all) mkdirSync(each)
  const body = `process.send(await lock.withLock(() => 'acquired', ${JSON.stringify(all)}))`
  const child = await program(t, cwd, '', body)
  const { delayed } = await slow(t, child.pid, [all[1] as string], 'openat,readlink,newfstatat,statx', 500)
  assert.equal(await answer(child), 'acquired')
  await delayed()
})
