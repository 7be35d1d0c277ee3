// Worker threads: each thread owns its locks, and its end releases them.
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { acquireLock, acquireLockSync, inspectLockSync, releaseLock, releaseLockSync } from 'reconcile-lock'
import { directory, emptied, rejection } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { root } from '../support/packages.mjs'
import { ended } from '../support/program.mjs'
import { Thread } from '../support/thread.mjs'
import { sleep } from '../support/time.mjs'
import { noDeletion } from '../support/wine.mjs'
import { median } from '../support/within.mjs'

const lateEnd: KnownFailure = {
  runtime: 'deno',
  why: 'worker.terminate() of Deno resolves before the thread has ended and its lock is released',
  sometimes: true,
}

/** Asserts that no ended thread acquires the lock later. */
function staysFree(cwd: string): void {
  for (const end = performance.now() + 150; performance.now() < end; ) {
    const lock = acquireLockSync(cwd)
    assert.equal(lock.takenOver, undefined, 'an ended thread left a stale lock')
    lock.releaseSync()
  }
  assert.deepEqual(readdirSync(cwd), [])
}

for (const how of ['acquire', 'acquireSync'] as const) {
  test(`only its own thread releases a lock (${how})`, async (t) => {
    const cwd = directory(t)
    const thread = new Thread(t)
    const { holder } = await thread.ask(how, cwd)
    assert.deepEqual([holder?.pid, holder?.thread], [process.pid, thread.id])
    const error = await rejection(acquireLock(cwd))
    assert.equal(error.code, 'E_LOCK_CONTENTION')
    assert.deepEqual(error.holder, holder)
    assert.throws(() => acquireLockSync(cwd), { code: 'E_LOCK_CONTENTION', holder })
    assert.deepEqual(inspectLockSync(cwd).holder, holder)
    await releaseLock(cwd)
    releaseLockSync(cwd)
    assert.deepEqual(inspectLockSync(cwd).holder, holder, 'releaseLock of this thread keeps the lock')
    const other = new Thread(t)
    assert.deepEqual((await other.ask('acquire', cwd)).holder, holder)
    await other.ask('release', cwd)
    assert.deepEqual(inspectLockSync(cwd).holder, holder, 'releaseLock of a third thread keeps the lock')
    await thread.ask('release', cwd)
    const mine = await acquireLock(cwd)
    const refused = await thread.ask(how, cwd)
    assert.deepEqual([refused.code, refused.holder?.thread], ['E_LOCK_CONTENTION', 0])
    await thread.ends('terminate')
    assert.equal(mine.isHeld(), true, 'the end of a thread keeps the lock of another one')
    await mine.release()
  })
}

for (const how of ['terminate', 'end', 'exit', 'exit within an exit', 'throw', 'reject'] as const) {
  test(
    `${how} releases only the thread's locks`,
    knownFailure(how === 'terminate' ? lateEnd : [], async (t) => {
      const [first, second, mine, others] = [directory(t), directory(t), directory(t), directory(t)]
      const [thread, other] = [new Thread(t), new Thread(t)]
      const held = acquireLockSync(mine)
      assert.equal((await other.ask('acquire', others)).code, undefined)
      assert.equal((await thread.ask('acquire', first)).code, undefined)
      assert.equal((await thread.ask('acquireSync', second)).code, undefined)
      await thread.ends(how)
      assert.equal(thread.failure?.message, how === 'throw' || how === 'reject' ? 'on purpose' : undefined)
      for (const cwd of [first, second]) {
        assert.deepEqual(readdirSync(cwd), [])
        staysFree(cwd)
      }
      assert.equal(held.isHeld(), true)
      assert.deepEqual(inspectLockSync(others).holder?.thread, other.id)
      held.releaseSync()
      await other.ask('release', others)
      for (const cwd of [mine, others]) assert.deepEqual(readdirSync(cwd), [])
    }),
  )
}

for (const how of ['wait', 'waitSync'] as const) {
  test(
    `a waiting thread terminates without acquiring the lock (${how})`,
    knownFailure(lateEnd, async (t) => {
      const cwd = directory(t)
      const times: number[] = []
      for (let round = 0; round < 3; round += 1) {
        const held = acquireLockSync(cwd)
        const thread = new Thread(t)
        assert.equal((await thread.ask(how, cwd)).code, undefined)
        const started = performance.now()
        await thread.ends('terminate')
        times.push(performance.now() - started)
        assert.equal(held.isHeld(), true)
        held.releaseSync()
        staysFree(cwd)
      }
      assert.ok(median(times) < 2000, `it took ${times} ms`)
    }),
  )

  test(
    `a waiting thread acquires from a terminated thread (${how})`,
    knownFailure(lateEnd, async (t) => {
      const cwd = directory(t)
      const [holder, waiter] = [new Thread(t), new Thread(t)]
      await holder.ask('acquire', cwd)
      await waiter.ask(how, cwd)
      const acquired = waiter.says()
      await holder.ends('terminate')
      assert.deepEqual((await acquired).holder?.thread, waiter.id)
      assert.equal(inspectLockSync(cwd).holder?.thread, waiter.id)
      await waiter.ends('terminate')
      assert.deepEqual(readdirSync(cwd), [])
    }),
  )
}

for (const how of ['loop', 'loopSync'] as const) {
  test(
    `threads terminated while acquiring leave no lock (${how})`,
    knownFailure({ ...noDeletion, sometimes: true }, async (t) => {
      const cwd = directory(t)
      for (let round = 0; round < 12; round += 1) {
        const threads = [new Thread(t), new Thread(t)]
        await Promise.all(threads.map((thread) => thread.ask(how, cwd)))
        await sleep(round / 2, 'each round terminates at another moment')
        await Promise.all(threads.map((thread) => thread.ends('terminate')))
        const lock = acquireLockSync({ cwd, timeout: 20_000 })
        assert.equal(lock.takenOver, undefined)
        lock.releaseSync()
        await emptied(cwd)
      }
    }),
  )
}

test(
  'a nested thread owns its locks until either thread ends',
  knownFailure(lateEnd, async (t) => {
    const [outer, inner, mine] = [directory(t), directory(t), directory(t)]
    const thread = new Thread(t)
    const held = await acquireLock(mine)
    await thread.ask('acquire', outer)
    const { holder } = await thread.ask('nest', inner)
    assert.equal(holder?.pid, process.pid)
    assert.ok(holder?.thread !== undefined && holder.thread > thread.id)
    await thread.ask('release', inner)
    assert.deepEqual(inspectLockSync(inner).holder, holder, 'its parent does not release it')
    assert.equal((await rejection(acquireLock(inner))).code, 'E_LOCK_CONTENTION')
    await thread.ends('terminate')
    for (const cwd of [outer, inner]) staysFree(cwd)
    assert.equal(held.isHeld(), true)
    await held.release()
  }),
)

test('a thread has an exit listener while it holds locks', async (t) => {
  const cwd = directory(t)
  const thread = new Thread(t)
  const listeners = async () => Number((await thread.ask('listeners', cwd)).value)
  // Node.js itself has exit listeners in a worker.
  const [there, here] = [await listeners(), process.listenerCount('exit')]
  const counts = async () => [(await listeners()) - there, process.listenerCount('exit') - here]
  await thread.ask('acquire', cwd)
  assert.deepEqual(await counts(), [1, 0])
  await thread.ask('release', cwd)
  assert.deepEqual(await counts(), [0, 0])
})

for (const [how, code] of Object.entries({ 'process.exit(3)': 3, "throw new Error('on purpose')": 1 })) {
  test(
    `${how} removes lock files of all threads`,
    knownFailure(
      [
        { runtime: 'bun', why: 'Bun ends without exit(3), so the locks of its threads stay as stale files' },
        {
          runtime: 'deno',
          why: 'Deno ends without waiting for its threads, so their locks may stay as stale files',
          sometimes: true,
        },
      ],
      (t) => {
        const cwd = directory(t)
        const worker = `
      const { workerData: [home, cwd, file], parentPort } = require('node:worker_threads')
      const lock = require(home)
      lock.acquireLockSync({ cwd, file })
      lock.acquireLock({ cwd, file: 'wanted', timeout: Infinity, onWait: () => parentPort.postMessage('waits') })
      setInterval(() => {}, 1e6)`
        const body = `
      const { Worker } = require('node:worker_threads')
      const { once } = require('node:events')
      lock.acquireLockSync({ cwd, file: 'wanted' })
      const started = ['one', 'two'].map((file) => {
        const workerData = [${JSON.stringify(root)}, cwd, file]
        return once(new Worker(${JSON.stringify(worker)}, { eval: true, workerData }), 'message')
      })
      Promise.all(started).then(() => { console.log(require('node:fs').readdirSync(cwd).length); ${how} })`
        const end = ended(t, cwd, body)
        assert.deepEqual([end.code, end.signal, end.stdout], [code, null, '3\n'], end.stderr)
        assert.deepEqual(readdirSync(cwd), [])
      },
    ),
  )
}

test('an error that the engine drops ends a synchronous wait', (t) => {
  // As in a thread that is being terminated.
  const body = `
    const native = require(Object.keys(require.cache).find((path) => path.endsWith('.node')))
    native.acquireSync = native.waitSlice = () => {}
    try { lock.acquireLockSync({ cwd, timeout: Infinity }) } catch (error) { console.log(error.message) }`
  assert.equal(ended(t, directory(t), body).stdout, 'this thread is being terminated\n')
})
