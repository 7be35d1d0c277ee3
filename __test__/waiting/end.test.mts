// Ending while waiting: a wait does not delay the end of its process or thread, and ends with it.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { acquireLock, acquireLockSync, resolveLockPath } from 'reconcile-lock'
import { send } from '../support/child.mjs'
import { deadPid, directory, leave, withoutSignals } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { begun, ended } from '../support/program.mjs'
import { moreProcessorTime } from '../support/qemu.mjs'
import { sleep } from '../support/time.mjs'
import { type Outcome, ThreadWaiter, Waiter } from '../support/waiter.mjs'
import { noDeletion } from '../support/wine.mjs'
import { median, within } from '../support/within.mjs'

const PROMPT = 1000
/** One of these rounds must be prompt; a busy machine makes some slow. */
const ROUNDS = 3
const home = fileURLToPath(new URL('../../../dist/index.js', import.meta.url))

interface Waits {
  inThread: boolean
  form: 'async' | 'sync'
}

/** The waits at the end of a process. */
const SCENES: [string, Waits[]][] = [
  ['main thread waits', [{ inThread: false, form: 'async' }]],
  ['worker waits', [{ inThread: true, form: 'async' }]],
  ['worker blocks', [{ inThread: true, form: 'sync' }]],
  [
    'all wait',
    [
      { inThread: false, form: 'async' },
      { inThread: false, form: 'async' },
      { inThread: true, form: 'async' },
      { inThread: true, form: 'sync' },
    ],
  ],
]

/** Starts a process that waits for a lock of this one; `mine` are the waits of its main thread. */
async function scene(t: TestContext, waits: Waits[], stderr: 'inherit' | 'ignore' = 'inherit') {
  const cwd = directory(t)
  const holder = await acquireLock(cwd)
  const waiter = new Waiter(t, { stderr })
  const mine: Promise<Outcome>[] = []
  // A blocked thread does not receive later orders.
  for (const wait of waits) {
    const { outcome } = await waiter.begin({ cwd, ...wait })
    if (!wait.inThread) mine.push(outcome)
  }
  return { cwd, holder, waiter, mine }
}

const LATE_END = {
  runtime: 'deno',
  why: 'worker.terminate() of Deno resolves before the thread has ended and its lock is released',
  sometimes: true,
} as const

const BUSY_THREAD = {
  runtime: 'deno',
  why: 'worker.terminate() of Deno does not end a thread that is busy',
  isHarmful: true,
} as const

/** Asserts that the lock is free, now and a moment later. */
async function assertFree(cwd: string): Promise<void> {
  const lock = await acquireLock(cwd)
  assert.equal(lock.takenOver, undefined, 'the wait left a stale lock')
  await lock.release()
  await sleep(20, 'a wait that outlives its thread would acquire the lock')
  assert.equal(existsSync(resolveLockPath(cwd)), false)
}

for (const [name, waits] of SCENES) {
  for (const [how, end, expected] of [
    ['process.exit', { do: 'exit' }, 7],
    ['an uncaught error', { do: 'throw' }, 1],
    ['SIGTERM', 'SIGTERM', null],
  ] as const) {
    test(`${how} ends the process promptly (${name})`, async (t) => {
      const stderr = how === 'an uncaught error' ? 'ignore' : 'inherit'
      const round = async () => {
        const { cwd, holder, waiter } = await scene(t, waits, stderr)
        const { took, code } = await waiter.ends(end)
        assert.equal(code, expected)
        assert.equal(holder.isHeld(), true)
        await holder.release()
        await assertFree(cwd)
        return took
      }
      await within(PROMPT, round, ROUNDS)
    })
  }

  const inThread = waits.filter((wait) => wait.inThread)
  if (inThread.length === 0) continue
  test(
    `worker.terminate ends only its thread promptly (${name})`,
    knownFailure(name === 'all wait' ? LATE_END : [], async (t) => {
      const round = async () => {
        const { cwd, holder, waiter, mine } = await scene(t, waits)
        const took = await waiter.ask<number>({ do: 'terminate' })
        const { outcome } = await waiter.begin({ cwd, timeout: 20_000 })
        await holder.release()
        for (const waiting of [...mine, outcome]) {
          assert.equal((await waiting).ok, true)
          await waiter.release(cwd)
        }
        await assertFree(cwd)
        return took
      }
      await within(PROMPT, round, ROUNDS)
    }),
  )
}

test(
  'process.exit is prompt with 16 threads in blocking waits',
  { skip: withoutSignals },
  knownFailure(moreProcessorTime, async (t) => {
    const cwd = directory(t)
    const holder = acquireLockSync(cwd)
    const threads = 16
    const took = async (acquire: 'acquireLock' | 'acquireLockSync') => {
      const program = join(directory(t), 'waiter.cjs')
      const waiter = `
      const { parentPort, workerData: cwd } = require('node:worker_threads')
      const onWait = () => parentPort.postMessage('waits')
      require(${JSON.stringify(home)}).${acquire}({ cwd, timeout: Infinity, onWait })`
      writeFileSync(program, waiter)
      const body = `
      const { Worker } = require('node:worker_threads')
      const waits = Array.from({ length: ${threads} }, () => {
        const worker = new Worker(${JSON.stringify(program)}, { workerData: cwd })
        return new Promise((resolve) => worker.once('message', resolve))
      })
      process.on('SIGUSR2', () => process.exit(7))
      Promise.all(waits).then(() => console.log('all wait'))`
      const [child] = await begun(t, cwd, body)
      const exit = once(child, 'exit')
      const before = performance.now()
      send(child, 'SIGUSR2')
      assert.deepEqual(await exit, [7, null])
      return performance.now() - before
    }
    await within(threads * 5, async () => {
      const own = await took('acquireLock')
      const more = (await took('acquireLockSync')) - own
      t.diagnostic(`${more.toFixed(1)} ms more than threads that do not block`)
      return more
    })
    holder.releaseSync()
  }),
)

test('a process that exits while acquiring leaves no lock', async (t) => {
  const times: number[] = []
  for (let round = 0; round < 20; round += 1) {
    const { cwd, holder, waiter } = await scene(t, [
      { inThread: false, form: 'async' },
      { inThread: false, form: 'async' },
    ])
    const end = waiter.ends({ do: 'exit' })
    await sleep(Math.random() * 6, 'each round releases at another moment')
    holder.releaseSync()
    const { code } = await end
    assert.equal(code, 7)
    const before = performance.now()
    const lock = await acquireLock({ cwd, timeout: 20_000 })
    times.push(performance.now() - before)
    // An empty file would delay the next process by the creation grace period.
    assert.doesNotMatch(String(lock.takenOver?.reason), /empty/, 'the next process had to wait')
    await lock.release()
  }
  assert.ok(median(times) < PROMPT, `the next process had to wait: ${times.join(' ')} ms`)
})

test('a take-over that an exit cuts off is reported again', async (t) => {
  const cwd = directory(t)
  const holder = { pid: deadPid(), createdAt: 1_700_000_000_000 }
  for (let round = 0; round < 5; round += 1) {
    leave(cwd, holder)
    const body = `
      lock.acquireLock({ cwd, file: 'other' }).then(async (other) => {
        await other.release()
        lock.acquireLock({ cwd, legacy: false })
        process.exit()
      })`
    assert.equal(ended(t, cwd, body).code, 0)
    const lock = await acquireLock(cwd)
    assert.deepEqual(lock.takenOver?.holder, holder)
    await lock.release()
  }
})

test(
  'a take-over that terminate cuts off is reported again',
  knownFailure(BUSY_THREAD, async (t) => {
    const cwd = directory(t)
    const holder = { pid: deadPid(), createdAt: 1_700_000_000_000 }
    const program = join(directory(t), 'busy.cjs')
    const busy = `
    const { parentPort, workerData: cwd } = require('node:worker_threads')
    require(${JSON.stringify(home)}).acquireLock({ cwd, legacy: false })
    parentPort.postMessage('begun')
    for (;;);`
    writeFileSync(program, busy)
    for (let round = 0; round < 20; round += 1) {
      leave(cwd, holder)
      const worker = new Worker(program, { workerData: cwd })
      await once(worker, 'message')
      await worker.terminate()
      const lock = await acquireLock({ cwd, timeout: 20_000 })
      assert.deepEqual(lock.takenOver?.holder, holder)
      await lock.release()
    }
  }),
)

test(
  'threads terminated while acquiring leave no lock',
  knownFailure({ ...noDeletion, sometimes: true }, async (t) => {
    const cwd = directory(t)
    for (let round = 0; round < 30; round += 1) {
      const holder = acquireLockSync(cwd)
      const thread = new ThreadWaiter(t)
      const form = round % 2 === 0 ? 'async' : 'sync'
      await thread.begin({ cwd, form })
      const end = thread.worker.terminate()
      if (round % 3 > 0) await sleep(Math.random() * 4, 'each round releases at another moment')
      holder.releaseSync()
      await end
      const lock = await acquireLock({ cwd, timeout: 20_000 })
      assert.equal(lock.takenOver, undefined)
      await lock.release()
    }
    assert.equal(existsSync(resolveLockPath(cwd)), false)
  }),
)
