// The package loaded more than once: by threads, as two copies, and again after `require.cache` was emptied.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { resolveLockPath } from 'reconcile-lock'
import { deadPid, directory, leave, rejection } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { copied, loaded, loadedAgain, root } from '../support/packages.mjs'
import { ended } from '../support/program.mjs'
import { Thread } from '../support/thread.mjs'
import type { Plan, Sample } from './generations.mjs'

test('one copy loaded twice shares the locks of its thread', async (t) => {
  const cwd = directory(t)
  const [one, two] = [loaded(root), loadedAgain()]
  assert.notEqual(one.acquireLock, two.acquireLock)
  const lock = await one.acquireLock(cwd)
  assert.equal((await rejection(two.acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
  await two.releaseLock(cwd)
  assert.equal(lock.isHeld(), false)
  await lock.release()
})

const others = {
  'two copies': (t: TestContext) => loaded(copied(t)),
}

for (const [what, another] of Object.entries(others)) {
  test(`${what} in one thread exclude each other`, async (t) => {
    const cwd = directory(t)
    const [here, other] = [loaded(root), another(t)]
    assert.notEqual(other.acquireLock, here.acquireLock)
    for (const [one, two] of [
      [other, here],
      [here, other],
    ] as const) {
      leave(cwd, { pid: deadPid(), createdAt: 1 })
      const lock = await one.acquireLock(cwd)
      assert.notEqual(lock.takenOver, undefined)
      assert.deepEqual([lock.holder.pid, lock.holder.thread], [process.pid, 0])
      const refused = await rejection(two.acquireLock(cwd))
      assert.deepEqual([refused.code, refused.holder], ['E_LOCK_CONTENTION', lock.holder])
      assert.throws(() => two.acquireLockSync(cwd), { code: 'E_LOCK_CONTENTION', holder: lock.holder })
      assert.equal((await rejection(two.breakLock(cwd))).code, 'E_LOCK_CONTENTION')
      assert.deepEqual(two.inspectLockSync(cwd).holder, lock.holder)
      await two.releaseLock(cwd)
      two.releaseLockSync(cwd)
      assert.equal(lock.isHeld(), true)
      const waiting = two.acquireLock({ cwd, timeout: 10_000 })
      await lock.release()
      const next = await waiting
      await lock.release()
      one.releaseLockSync(cwd)
      assert.equal(next.isHeld(), true)
      await next.release()
      assert.equal(existsSync(resolveLockPath(cwd)), false)
    }
  })

  test(`each of ${what} adds its own exit listener`, async (t) => {
    const [one, two] = [loaded(root), another(t)]
    const before = process.listenerCount('exit')
    const counts: number[] = []
    const count = () => counts.push(process.listenerCount('exit') - before)
    const [first, second] = [one.acquireLockSync(directory(t)), two.acquireLockSync(directory(t))]
    count()
    first.releaseSync()
    count()
    second.releaseSync()
    count()
    assert.deepEqual(counts, [2, 1, 0])
  })
}

const lateEnd = {
  runtime: 'deno',
  why: 'worker.terminate() resolves before the thread ends and releases its lock',
  sometimes: true,
} as const

test(
  'two copies in several threads exclude each other',
  knownFailure(lateEnd, async (t) => {
    const copy = copied(t)
    const [here, other] = [loaded(root), loaded(copy)]
    for (const home of [root, copy]) {
      const [cwd, mine, theirs] = [directory(t), directory(t), directory(t)]
      const held = [here.acquireLockSync(mine), other.acquireLockSync(theirs)]
      const [thread, another] = [new Thread(t, home), new Thread(t, home === root ? copy : root)]
      const { holder } = await thread.ask('acquire', cwd)
      assert.deepEqual([holder?.pid, holder?.thread], [process.pid, thread.id])
      for (const each of [here, other]) {
        assert.deepEqual((await rejection(each.acquireLock(cwd))).holder, holder)
        await each.releaseLock(cwd)
      }
      assert.deepEqual((await another.ask('acquire', cwd)).holder, holder)
      await another.ask('release', cwd)
      assert.deepEqual(here.inspectLockSync(cwd).holder, holder)
      assert.equal((await thread.ask('acquire', mine)).holder?.thread, 0)
      await another.ends('terminate')
      assert.deepEqual(
        here.inspectLockSync(cwd).holder,
        holder,
        'the end of another thread does not release the lock',
      )
      await thread.ends('terminate')
      assert.deepEqual(readdirSync(cwd), [])
      for (const lock of held) {
        assert.equal(lock.isHeld(), true)
        lock.releaseSync()
      }
    }
  }),
)

for (const [how, code, signal, left] of [
  ['process.exit(3)', 3, null, 0],
  ["process.kill(process.pid, 'SIGKILL')", null, 'SIGKILL', 3],
] as const) {
  test(`no copy holds a lock after ${how}`, (t) => {
    const cwd = directory(t)
    const copies = [root, copied(t)].map((home) => JSON.stringify(home))
    const body = `
      const copies = [require(${copies[0]}), require(${copies[1]})]
      for (const path of Object.keys(require.cache)) delete require.cache[path]
      copies.push(require(${copies[1]}))
      for (const [index, copy] of copies.entries()) copy.acquireLockSync({ cwd, file: String(index) })
      ${how}`
    const end = ended(t, cwd, body)
    assert.deepEqual([end.code, end.signal], [code, signal], end.stderr)
    assert.equal(readdirSync(cwd).length, left)
    for (const file of readdirSync(cwd))
      assert.equal(loaded(root).inspectLockSync({ cwd, file }).state, 'stale')
  })
}

test(
  'threads of two copies lose no update of a counter',
  knownFailure(lateEnd, async (t) => {
    const cwd = directory(t)
    const homes = [root, copied(t)]
    const counter = new SharedArrayBuffer(4)
    const counting = Array.from({ length: 6 }, (_, index) => new Thread(t, homes[index % 2]))
    let isCounting = true
    const counted = Promise.all(counting.map((thread) => thread.ask('count', cwd, counter))).finally(() => {
      isCounting = false
    })
    let gone = 0
    for (; isCounting || gone === 0; gone += 1) {
      const passing = new Thread(t, homes[gone % 2])
      await passing.ask(gone % 3 === 0 ? 'loop' : 'wait', cwd)
      await passing.ends('terminate')
    }
    for (const reply of await counted) assert.equal(reply.code, undefined)
    t.diagnostic(`${gone} threads started and ended`)
    assert.equal(new Int32Array(counter)[0], 600)
    await Promise.all(counting.map((thread) => thread.ends('terminate')))
    assert.deepEqual(readdirSync(cwd), [])
  }),
)

/** The bound for 50 threads, in bytes. A leak exceeds it in both halves, growth of the engine only in one. */
const GROWTH = 3_000_000
const generations = fileURLToPath(new URL('generations.mjs', import.meta.url))

const generationsFail: KnownFailure[] = [
  { runtime: 'bun', why: 'Bun starts its own threads meanwhile', sometimes: true },
  { runtime: 'deno', why: 'Deno frees the memory of its first hundred threads later', sometimes: true },
  { platform: 'qemu', why: 'a hundred threads take longer than two minutes' },
]

/** Runs the generations in a process, and compares its usage before, after half and after all of them. */
async function assertNoGrowth(t: TestContext, name: string, plan: Omit<Plan, 'cwd'>): Promise<void> {
  const cwd = directory(t)
  const child = spawn(
    process.execPath,
    ['--expose-gc', generations, JSON.stringify({ cwd, ...plan } satisfies Plan)],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      // By default threads use up to 8 arenas a processor (mallopt(3)), so memory grows until about 250 have ended.
      env: { ...process.env, MALLOC_ARENA_MAX: '2' },
    },
  )
  t.after(() => child.exitCode === null && child.signalCode === null && child.kill('SIGKILL'))
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  assert.deepEqual(await once(child, 'close'), [0, null], name)
  const [before, half, after] = JSON.parse(output) as [Sample, Sample, Sample]
  const growth = [half.rss - before.rss, after.rss - half.rss]
  t.diagnostic(`${name}: resident grew by ${growth.join(' and ')} bytes; ${JSON.stringify(after)}`)
  assert.ok(Math.min(...growth) <= GROWTH, `${name}: memory grew by ${growth.join(' and ')} bytes`)
  assert.deepEqual([after.descriptors, after.threads], [before.descriptors, before.threads], name)
  assert.deepEqual(readdirSync(cwd), [], name)
}

test(
  '100 ended threads leave no memory, descriptor, thread or file',
  knownFailure(generationsFail, async (t) => {
    const copy = copied(t)
    await Promise.all([
      assertNoGrowth(t, 'with the package in the main thread', { homes: [root], here: true }),
      assertNoGrowth(t, 'without it, with two copies', { homes: [root, copy], here: false }),
    ])
  }),
)

test('a window of Electron releases its own locks alone', (t) => {
  const body = `
    process.type = 'renderer'
    const other = lock.acquireLockSync({ cwd, file: 'other' })
    process.removeAllListeners('exit')
    for (const path of Object.keys(require.cache)) delete require.cache[path]
    const own = require(${JSON.stringify(root)}).acquireLockSync({ cwd, file: 'own' })
    process.emit('exit')
    console.log(own.isHeld(), other.isHeld())`
  const { stdout, stderr } = ended(t, directory(t), body)
  assert.equal(stdout, 'false true\n', stderr)
})
