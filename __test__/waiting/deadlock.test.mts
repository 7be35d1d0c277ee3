// Synchronous waits block their own thread: it can neither release a lock nor receive one that it acquired.
import assert from 'node:assert/strict'
import { readdirSync, renameSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { acquireLock, acquireLockSync, type Lock, releaseLock, resolveLockPath } from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { directory, MESSAGE, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { Thread } from '../support/thread.mjs'
import { later, sleep, until } from '../support/time.mjs'
import { begin } from '../support/waits.mjs'
import { noLinks } from '../support/wine.mjs'

const FOREVER = Number.POSITIVE_INFINITY
const sync = async (options: Parameters<typeof acquireLockSync>[0]) => acquireLockSync(options)

for (const [how, acquire] of [
  ['acquireLock', acquireLock],
  ['acquireLockSync', sync],
] as const) {
  test(`acquireLockSync throws E_LOCK_DEADLOCK for its own thread's lock (${how})`, async (t) => {
    const cwd = directory(t)
    const held = await acquire(cwd)
    const before = performance.now()
    for (const timeout of [FOREVER, 20_000]) {
      const error = await rejection(sync({ cwd, timeout }))
      assert.equal(error.code, 'E_LOCK_DEADLOCK')
      assert.equal(error.recoverable, false)
      assert.equal(error.path, held.path)
      assert.match(error.message, /^cannot wait for .*: this thread holds it/)
    }
    assert.ok(performance.now() - before < 10_000)
    assert.ok(held.isHeld())
    const refused = await rejection(sync({ cwd }))
    assert.deepEqual(
      [refused.code, refused.message],
      ['E_LOCK_CONTENTION', MESSAGE],
      'without a timeout it is contention',
    )
    held.releaseSync()
    assert.deepEqual(readdirSync(cwd), [])
  })
}

test('acquireLockSync waits at the path of its own lost lock', async (t) => {
  const cwd = directory(t)
  const peer = new Peer(t)
  const lost = acquireLockSync(cwd)
  renameSync(lost.path, `${lost.path}.moved`)
  await peer.acquire(cwd)
  assert.equal((await rejection(sync({ cwd, timeout: 50 }))).code, 'E_LOCK_CONTENTION')
  const moved = { file: `${lost.path}.moved`, timeout: FOREVER }
  assert.equal((await rejection(sync(moved))).code, 'E_LOCK_DEADLOCK')
  peer.child.send({ do: 'release', cwd })
  const lock = acquireLockSync({ cwd, timeout: 20_000 })
  assert.equal((await rejection(lost.release())).code, 'E_LOCK_LOST')
  lock.releaseSync()
  assert.deepEqual(readdirSync(cwd), ['.xero-reconcile-lock.json.moved'])
})

test('acquireLockSync waits for the lock of another thread', async (t) => {
  const cwd = directory(t)
  const thread = new Thread(t)
  await thread.ask('acquire', cwd)
  assert.equal((await rejection(sync({ cwd, timeout: 50 }))).code, 'E_LOCK_CONTENTION')
  thread.worker.postMessage({ do: 'release', cwd })
  acquireLockSync({ cwd, timeout: 20_000 }).releaseSync()
})

test('acquireLockSync acquires before a waiting call of its thread', async (t) => {
  const cwd = directory(t)
  const peer = new Peer(t)
  await peer.acquire(cwd)
  const waiting = acquireLock({ cwd, timeout: FOREVER })
  peer.child.send({ do: 'release', cwd })
  const first = acquireLockSync({ cwd, timeout: FOREVER })
  assert.ok(first.isHeld())
  later(20, 'the other call would have the lock by then', () => first.releaseSync())
  const second: Lock = await waiting
  assert.deepEqual([first.isHeld(), second.isHeld()], [false, true])
  await second.release()
})

test('a call whose lock was claimed keeps its directory', async (t) => {
  const before = process.cwd()
  t.after(() => process.chdir(before))
  const [here, there] = [directory(t), directory(t)]
  for (let round = 0; round < 20; round += 1) {
    process.chdir(here)
    const pending = acquireLock()
    acquireLockSync({ timeout: 20_000 }).releaseSync()
    process.chdir(there)
    // The synchronous call may acquire first; otherwise it claims the lock.
    const lock = await pending.catch(({ code, holder, reason }) => {
      assert.equal(code, 'E_LOCK_CONTENTION')
      assert.ok(holder ?? reason, 'it names no holder and no reason')
    })
    assert.equal(lock?.path ?? resolveLockPath(here), resolveLockPath(here))
    await lock?.release()
  }
})

test(
  'acquireLockSync claims a lock under another name of the directory',
  knownFailure(noLinks, async (t) => {
    const [real, links] = [directory(t), directory(t)]
    const link = join(links, 'link')
    symlinkSync(real, link, 'junction')
    const peer = new Peer(t)
    await peer.acquire(real)
    const waiting = acquireLock({ cwd: real, timeout: FOREVER })
    await sleep(50, 'the call waits')
    peer.child.send({ do: 'release', cwd: real })
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
    const first = acquireLockSync({ cwd: link, timeout: 10_000 })
    assert.ok(first.isHeld() && first.path.startsWith(link))
    await releaseLock(link)
    await (await waiting).release()
    assert.deepEqual(readdirSync(real), [])
  }),
)

test('acquireLockSync succeeds during an asynchronous acquire of its thread', async (t) => {
  const cwd = directory(t)
  for (let round = 0; round < 50; round += 1) {
    const pending = acquireLock({ cwd, timeout: FOREVER })
    // This call may acquire first; otherwise it is refused.
    const other = round % 2 === 0 ? acquireLock(cwd) : undefined
    const released = other?.then(
      (lock) => lock.release(),
      ({ code }) => assert.equal(code, 'E_LOCK_CONTENTION'),
    )
    acquireLockSync({ cwd, timeout: FOREVER }).releaseSync()
    await (await pending).release()
    await released
  }
  assert.deepEqual(readdirSync(cwd), [])
})

test('a call waits again for a slot that was claimed', async (t) => {
  const cwd = directory(t)
  const file = resolveLockPath(cwd)
  const peer = new Peer(t)
  await peer.acquire(cwd)
  const other = await acquireLock({ file: `${file}.slot1` })
  const { waiting } = await begin({ file, slots: 2 })
  peer.child.send({ do: 'release', cwd })
  acquireLockSync({ file, timeout: 10_000 }).releaseSync()
  const lock = await waiting
  assert.equal(lock.path, file)
  await Promise.all([lock.release(), other.release()])
})

test('onWait is called once a second after a claim', async (t) => {
  const cwd = directory(t)
  const peer = new Peer(t)
  await peer.acquire(cwd)
  const calls: number[] = []
  const waiting = acquireLock({ cwd, timeout: 20_000, onWait: () => calls.push(performance.now()) })
  await until(() => calls.length > 0, 'the call waits')
  peer.child.send({ do: 'release', cwd })
  const first = acquireLockSync({ cwd, timeout: 10_000 })
  await until(() => calls.length > 1, 'it waits again')
  first.releaseSync()
  await (await waiting).release()
  const [one = 0, two = 0] = calls
  // A slow machine reads the first time a while after the wait has begun.
  assert.ok(two - one > 500, `${two - one} ms`)
})
