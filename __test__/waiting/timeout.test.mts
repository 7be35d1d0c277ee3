// Timeouts: a call waits at least as long as its timeout, and not much longer.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { readdirSync, renameSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import {
  acquireLock,
  acquireLockSync,
  type Lock,
  type LockError,
  resolveLockPath,
  withLock,
} from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { deadPid, directory, leave, MESSAGE, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { moreProcessorTime, noNanoseconds } from '../support/qemu.mjs'
import { sleep, until } from '../support/time.mjs'
import { Waiter } from '../support/waiter.mjs'
import { begin } from '../support/waits.mjs'
import { noDeletion } from '../support/wine.mjs'
import { within } from '../support/within.mjs'

/** How late the most punctual of several waits may be; on an idle machine each is late by a few milliseconds. */
const LATE = 200

const calls = [
  ['acquireLock', acquireLock],
  ['acquireLockSync', async (options: object) => acquireLockSync(options)],
  ['withLock', (options: object) => withLock(() => assert.fail('fn was called'), options)],
] as const

/** A lock that another process holds. */
async function held(t: TestContext): Promise<{ cwd: string; peer: Peer }> {
  const [cwd, peer] = [directory(t), new Peer(t)]
  assert.equal((await peer.acquire(cwd)).ok, true)
  return { cwd, peer }
}

for (const [name, acquire] of calls) {
  test(`${name} times out on time and reports the holder`, async (t) => {
    const { cwd, peer } = await held(t)
    for (const timeout of [0.001, 0.5, 1, 1.5, 2, 5, 30, 33.3, 100]) {
      let earliest = Number.POSITIVE_INFINITY
      for (let round = 0; round < (timeout < 10 ? 20 : 3); round += 1) {
        const [clock, wall] = [performance.now(), Date.now()]
        const error = await rejection(acquire({ cwd, timeout, message: `${timeout} are over` }))
        const [took, passed] = [performance.now() - clock, Date.now() - wall]
        assert.ok(took >= timeout, `${took} ms instead of ${timeout}`)
        assert.ok(passed >= Math.floor(timeout), `${passed} ms of the wall clock instead of ${timeout}`)
        earliest = Math.min(earliest, took)
        const { code, message, path, recoverable, holder } = error as unknown as LockError
        assert.deepEqual(
          [code, message, path, recoverable],
          ['E_LOCK_CONTENTION', `${timeout} are over`, resolveLockPath(cwd), true],
        )
        assert.equal(holder?.pid, peer.child.pid, `after ${timeout} ms`)
      }
      assert.ok(earliest < timeout + LATE, `${earliest} ms instead of ${timeout}`)
    }
  })

  test(`${name} does not wait without a timeout`, async (t) => {
    const { cwd, peer } = await held(t)
    for (const options of [{ cwd }, { cwd, timeout: 0 }, { cwd, timeout: -0 }, { cwd, timeout: undefined }]) {
      const onWait = () => assert.fail('it waited')
      const error = (await rejection(acquire({ ...options, onWait }))) as unknown as LockError
      assert.deepEqual([error.code, error.message], ['E_LOCK_CONTENTION', MESSAGE])
      assert.equal(error.holder?.pid, peer.child.pid)
    }
  })
}

for (const [name, acquire] of calls) {
  test(`${name} rejects an invalid timeout without creating a file`, async (t) => {
    const cwd = directory(t)
    const wrong: [unknown, string, new () => Error][] = [
      ...[-1, -0.001, -1e300, Number.NEGATIVE_INFINITY, Number.NaN].map((timeout): (typeof wrong)[0] => [
        timeout,
        'ERR_OUT_OF_RANGE',
        RangeError,
      ]),
      ...['5', '', null, true, false, {}, [5], 5n, Symbol('5'), () => 5, Object(5), new Date(5)].map(
        (timeout): (typeof wrong)[0] => [timeout, 'ERR_INVALID_ARG_TYPE', TypeError],
      ),
    ]
    for (const [timeout, code, type] of wrong) {
      const onWait = () => assert.fail('it waited')
      const error = await rejection(acquire({ cwd, timeout: timeout as number, onWait }))
      assert.ok(error instanceof type, `${String(timeout)}: ${error}`)
      assert.equal(error.code, code, String(timeout))
      assert.match(error.message, /"options\.timeout"/)
    }
    assert.deepEqual(readdirSync(cwd), [])
  })
}

for (const timeout of [1e300, Number.MAX_VALUE, 2 ** 53, 1e12, Number.POSITIVE_INFINITY]) {
  test(`a timeout of ${timeout} does not overflow`, async (t) => {
    const { cwd, peer } = await held(t)
    const waiter = new Waiter(t)
    const sync = await waiter.begin({ cwd, timeout, form: 'sync' })
    const { waiting } = await begin({ cwd, timeout })
    const first = await Promise.race([
      waiting,
      sync.outcome,
      sleep(50, 'a timeout that overflows ends by then'),
    ])
    assert.equal(first, undefined, 'a wait ended early')
    await peer.ask({ do: 'release', cwd })
    const released = async () => {
      assert.equal((await sync.outcome).ok, true)
      await waiter.release(cwd)
    }
    await Promise.all([released(), waiting.then((lock) => lock.release())])
  })
}

for (const form of ['async', 'sync'] as const) {
  test(
    `a wait does not occupy the processor (${form})`,
    knownFailure(moreProcessorTime, async (t) => {
      const { cwd } = await held(t)
      const waiter = new Waiter(t)
      // The first wait compiles code, which is not a cost of waiting.
      await waiter.wait({ cwd, timeout: 30, form })
      // To poll takes all of the second. Cold code has taken 113 ms where the system reclaims its pages.
      await within(300, async () => {
        const before = await waiter.usage()
        await waiter.wait({ cwd, timeout: 1000, form })
        const cpu = (await waiter.usage()).cpu - before.cpu
        t.diagnostic(`${cpu.toFixed(1)} ms of the processor in 1000 ms`)
        return cpu
      })
    }),
  )
}

test('a wait ignores later changes of cwd and options', async (t) => {
  const before = process.cwd()
  t.after(() => process.chdir(before))
  const [here, there] = [directory(t), directory(t)]
  const holder = acquireLockSync(here)
  const other = acquireLockSync(there)
  process.chdir(here)
  const options = { timeout: 20_000, message: 'mine' }
  const [mine, changed] = [acquireLock({ timeout: 20_000 }), acquireLock(options)]
  const late = rejection(acquireLock({ timeout: 50, message: 'too late' }))
  process.chdir(there)
  Object.assign(options, { cwd: there, timeout: 0, message: 'another', onWait: 'wrong' })
  const { path, message } = await late
  assert.deepEqual([path, message], [resolveLockPath(here), 'too late'])
  await holder.release()
  for (const waiting of [mine, changed]) {
    const lock = await waiting
    assert.equal(lock.path, resolveLockPath(here))
    await lock.release()
  }
  await other.release()
})

test(
  'acquireLock waits for a new empty file until its timeout',
  knownFailure(noNanoseconds, async (t) => {
    const cwd = directory(t)
    for (const [, acquire] of calls) {
      await within(100 + LATE, async () => {
        leave(cwd, '', 0)
        const before = performance.now()
        const error = await rejection(acquire({ cwd, timeout: 100 }))
        const took = performance.now() - before
        assert.equal(error.code, 'E_LOCK_CONTENTION')
        assert.match(String(error.reason), /is creating it right now/)
        assert.ok(took >= 100, `${took} ms`)
        return took
      })
    }
    const before = performance.now()
    leave(cwd, '', 0)
    const lock = await acquireLock({ cwd, timeout: 20_000 })
    const took = performance.now() - before
    await lock.release()
    assert.match(String(lock.takenOver?.reason), /the file was empty/)
    assert.ok(took > 1900 && took < 5000, `${took} ms`)
  }),
)

const flockless = spawnSync('flock', ['--version']).status !== 0 && 'flock(1) is not installed'

test('a shared kernel lock does not prolong a timeout', { skip: flockless }, async (t) => {
  const cwd = directory(t)
  const path = leave(cwd, 'content of a killed process')
  const reader = spawn('flock', ['--shared', '--no-fork', path, 'sleep', '60'], { stdio: 'ignore' })
  t.after(() => reader.kill('SIGKILL'))
  await until(
    () => spawnSync('flock', ['--nonblock', path, 'true']).status !== 0,
    'flock holds a shared lock',
  )
  for (const [, acquire] of calls) {
    await within(100 + LATE, async () => {
      const before = performance.now()
      const error = await rejection(acquire({ cwd, timeout: 100 }))
      const took = performance.now() - before
      assert.equal(error.code, 'E_LOCK_CONTENTION')
      assert.ok(took >= 100, `${took} ms`)
      return took
    })
  }
  const held = directory(t)
  const holder = await acquireLock(held)
  const [long, other] = [acquireLock({ cwd, timeout: 20_000 }), acquireLock({ cwd: held, timeout: 20_000 })]
  await holder.release()
  await (await other).release()
  reader.kill('SIGKILL')
  const lock = await long
  assert.equal(lock.takenOver?.reason, 'the file did not contain a lock record')
  await lock.release()
})

test(
  'a wait ends on time if an empty file appears',
  knownFailure(noDeletion, async (t) => {
    let long: Promise<Lock> | undefined
    await within(300 + LATE, async () => {
      const { cwd } = await held(t)
      const path = resolveLockPath(cwd)
      const before = performance.now()
      const { waiting: short } = await begin({ cwd, timeout: 300 })
      long = (await begin({ cwd })).waiting
      // In one step: between a removal and a new file a waiter might acquire.
      renameSync(leave(cwd, '', 0, 'empty'), path)
      assert.equal((await rejection(short)).code, 'E_LOCK_CONTENTION')
      return performance.now() - before
    })
    assert.ok(long)
    const lock = await long
    // The wait that timed out took over first and rolled back.
    assert.match(String(lock.takenOver?.reason), /the file (was empty|did not contain a lock record)/)
    await lock.release()
  }),
)

/** Blocks the event loop. */
const block = (milliseconds: number) =>
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)

test('a blocked event loop refuses no stale lock', async (t) => {
  const cwd = directory(t)
  leave(cwd, { pid: deadPid(), createdAt: 1 })
  const waiting = acquireLock({ cwd, timeout: 300 })
  block(600)
  await (await waiting).release()
})

test('a blocked event loop refuses no free slot', async (t) => {
  const cwd = directory(t)
  const first = await acquireLock({ cwd, file: 'l' })
  const waiting = acquireLock({ cwd, file: 'l', slots: 2, timeout: 100 })
  block(400)
  const second = await waiting
  await Promise.all([first.release(), second.release()])
})
