// The cost of waiting: at most one thread, no processor time, no thread of the libuv pool, nothing after it.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLock, acquireLockSync, type Lock, resolveLockPath } from 'reconcile-lock'
import { directory, leave, readRecord } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { moreProcessorTime } from '../support/qemu.mjs'
import { Thread } from '../support/thread.mjs'
import { sleep, until } from '../support/time.mjs'
import { type Outcome, type Usage, Waiter } from '../support/waiter.mjs'
import { addonThreads, queued } from './queue.mjs'

const WAITERS = 200
const LONG = 120_000

interface Crowd {
  waiter: Waiter
  before: Usage
  outcomes: Promise<Outcome>[]
  /** Lets each waiter acquire and release, and checks that no resource is left. */
  end: () => Promise<void>
}

/** Many waiters in one other process, for locks that this process holds. */
async function crowd(t: TestContext, paths: 'one path' | 'many paths'): Promise<Crowd> {
  const root = directory(t)
  const many = Array.from({ length: WAITERS }, (_, index) => join(root, String(index)))
  const directories = paths === 'one path' ? [root] : many
  if (paths === 'many paths') for (const cwd of many) mkdirSync(cwd)
  const locks: Lock[] = directories.map((cwd) => acquireLockSync(cwd))
  const waiter = new Waiter(t)
  // The first wait compiles, opens and starts things that later ones reuse.
  await waiter.wait({ cwd: directories[0], timeout: 30 })
  await until(() => addonThreads(waiter.pid) === 0, 'the threads of the first wait end')
  const before = await waiter.usage()
  const outcomes = await Promise.all(
    Array.from({ length: WAITERS }, async (_, index) => {
      const cwd = directories[index % directories.length] ?? root
      const { outcome } = await waiter.begin({ cwd, timeout: LONG, quiet: true })
      return { cwd, outcome }
    }),
  )
  const end = async () => {
    for (const lock of locks) lock.releaseSync()
    for (const { cwd, outcome } of outcomes) {
      const { ok, code } = await outcome
      assert.ok(ok, code)
      await waiter.release(cwd)
    }
    await isAsBefore(waiter, before)
  }
  return { waiter, before, outcomes: outcomes.map(({ outcome }) => outcome), end }
}

/** Waits until a process has no more threads and descriptors than before. */
const isAsBefore = (waiter: Waiter, before: Usage) =>
  until(async () => {
    const { threads, descriptors } = await waiter.usage()
    return threads <= before.threads && descriptors <= before.descriptors
  }, 'threads and descriptors are as many as before')

/**
 * The share of a processor that each process uses in its best second: a process that polls uses it in each.
 * Measures more than one second only while a share is above `bound`.
 */
async function processorShares(waiters: Waiter[], bound: number): Promise<number[]> {
  const usages = () => Promise.all(waiters.map((waiter) => waiter.usage()))
  let shares = waiters.map(() => Number.POSITIVE_INFINITY)
  for (let second = 0; second < 5 && Math.max(...shares) >= bound; second += 1) {
    const [begins, start] = [await usages(), performance.now()]
    await sleep(1000, 'the processor time of the waiters is measured')
    const [ends, took] = [await usages(), performance.now() - start]
    shares = shares.map((share, index) =>
      Math.min(share, ((ends[index]?.cpu ?? 0) - (begins[index]?.cpu ?? 0)) / took),
    )
  }
  return shares
}

const moreThreads: KnownFailure = {
  runtime: 'bun',
  why: 'Bun starts and ends its own threads meanwhile',
  sometimes: true,
}

test(
  `${WAITERS} waiters need one thread and no processor time`,
  knownFailure([moreThreads, moreProcessorTime], async (t) => {
    const crowds = await Promise.all([crowd(t, 'one path'), crowd(t, 'many paths')])
    // The threads of the first attempts end.
    for (const { waiter, before } of crowds) {
      await until(async () => (await waiter.usage()).threads <= before.threads + 1, 'one thread more')
    }
    const bound = 0.01
    const shares = await processorShares(
      crowds.map(({ waiter }) => waiter),
      bound,
    )
    const ends = await Promise.all(crowds.map(({ waiter }) => waiter.usage()))
    for (const [index, what] of ['one lock', 'many locks'].entries()) {
      const [before, share, end] = [crowds[index]?.before, shares[index], ends[index]]
      assert.ok(before && share !== undefined && end)
      t.diagnostic(
        `${what}: ${(share * 100).toFixed(2)} % of a processor, ${end.threads - before.threads} threads and ` +
          `${end.descriptors - before.descriptors} descriptors more`,
      )
      assert.ok(share < bound, `${what}: ${share * 100} % of a processor`)
      // One thread that sleeps, and one that checks from time to time.
      assert.ok(end.threads <= before.threads + 2, `${what}: ${end.threads - before.threads} threads more`)
    }
    await Promise.all(crowds.map(({ end }) => end()))
  }),
)

test('a wait for a remote holder needs little processor time', async (t) => {
  const cwd = directory(t)
  const lock = await acquireLock(cwd)
  const record = readRecord(lock.path)
  await lock.release()
  // A process of another machine, on a shared filesystem.
  leave(cwd, { ...record, bootId: '00000000-0000-4000-8000-000000000000', host: 'elsewhere', fs: 'shared' })
  const waiter = new Waiter(t)
  const { status, outcome } = await waiter.begin({ cwd, timeout: LONG, quiet: true })
  assert.match(String(status.reason), /on elsewhere may hold it/)
  const bound = 0.1
  const [share = 1] = await processorShares([waiter], bound)
  t.diagnostic(`${(share * 100).toFixed(2)} % of a processor`)
  assert.ok(share < bound, `${share * 100} % of a processor`)
  execFileSync('rm', [resolveLockPath(cwd)])
  assert.equal((await outcome).ok, true)
})

const noPool = (['bun', 'deno'] as const).map((runtime) => ({
  runtime,
  why: 'there is no libuv pool, so the blocked thread of the control does not stop the others',
}))

test(
  'waiters do not block a thread of the libuv pool',
  knownFailure(noPool, async (t) => {
    const cwd = directory(t)
    const holder = await acquireLock(cwd)
    const waiter = new Waiter(t, { env: { UV_THREADPOOL_SIZE: '1' } })
    const waits = await Promise.all(
      Array.from({ length: 50 }, () => waiter.begin({ cwd, timeout: LONG, quiet: true })),
    )
    // Infinite if the files cannot be read in half a second.
    let took = Number.POSITIVE_INFINITY
    for (let round = 0; round < 5 && took === Number.POSITIVE_INFINITY; round += 1)
      took = await waiter.ask<number>({ do: 'files' })
    t.diagnostic(`${took.toFixed(1)} ms for 50 files`)
    assert.ok(took < Number.POSITIVE_INFINITY, 'files cannot be read')
    const fifo = join(cwd, 'fifo')
    execFileSync('mkfifo', [fifo])
    const blocked = await waiter.ask<number>({ do: 'files', fifo })
    assert.equal(blocked, Number.POSITIVE_INFINITY, 'control: a blocked thread stops a pool of one')
    await holder.release()
    for (const { outcome } of waits) {
      assert.equal((await outcome).ok, true)
      await waiter.release(cwd)
    }
  }),
)

test('an ended wait leaves no descriptor', async (t) => {
  const root = directory(t)
  const waiter = new Waiter(t)
  const held = join(root, 'held')
  mkdirSync(held)
  const holder = await acquireLock(held)
  await waiter.wait({ cwd: held, timeout: 30 })
  await until(() => addonThreads(waiter.pid) === 0, 'the threads of the first wait end')
  const before = await waiter.usage()
  for (let round = 0; round < 20; round += 1) {
    const cwd = join(root, String(round))
    mkdirSync(cwd)
    const sleeper = spawn('sleep', ['60'])
    writeFileSync(resolveLockPath(cwd), JSON.stringify({ pid: sleeper.pid, createdAt: 1 }))
    const taken = await waiter.begin({ cwd, timeout: LONG })
    const [late, aborted] = await Promise.all([
      waiter.wait({ cwd: held, timeout: 10 }),
      waiter.wait({ cwd: held, timeout: LONG, abortAfter: 15, form: 'async' }),
      waiter.wait({ cwd: held, timeout: 5, form: 'sync' }),
    ])
    assert.deepEqual([late.ok, aborted.ok], [false, false])
    sleeper.kill('SIGKILL')
    assert.equal((await taken.outcome).ok, true)
    await waiter.release(cwd)
  }
  await isAsBefore(waiter, before)
  await holder.release()
})

test('the end of a thread ends its wait', async (t) => {
  const cwd = directory(t)
  const held = acquireLockSync(cwd)
  const thread = new Thread(t)
  await thread.ask('wait', cwd)
  await until(() => queued(cwd) === 1, 'the waiter is in the queue')
  await thread.ends('terminate')
  await until(() => queued(cwd) === 0, 'its wait has ended')
  held.releaseSync()
})
