// `onWait`: the argument of its calls, and errors that it throws.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  type AcquireOptions,
  acquireLock,
  acquireLockSync,
  LockError,
  resolveLockPath,
  type WaitStatus,
  withLock,
} from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { directory, emptied, leave, readRecord, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { copied, loaded } from '../support/packages.mjs'
import { later, sleep } from '../support/time.mjs'
import { noDeletion } from '../support/wine.mjs'

/** The delay that a busy machine may add, in milliseconds. */
const LATE = 500

const calls = [
  ['acquireLock', acquireLock],
  ['acquireLockSync', async (options: AcquireOptions) => acquireLockSync(options)],
  ['withLock', (options: AcquireOptions) => withLock((lock) => lock, options)],
] as const

for (const [name, acquire] of calls.slice(0, 2)) {
  test(
    `${name} calls onWait each second with the current holder`,
    knownFailure(noDeletion, async (t) => {
      const [cwd, ...peers] = [directory(t), new Peer(t), new Peer(t)] as const
      const path = resolveLockPath(cwd)
      await peers[0].acquire(cwd)
      const next = { pid: peers[1].child.pid ?? 0, createdAt: 1_700_000_000_000 }
      const other = join(cwd, 'other')
      writeFileSync(other, JSON.stringify(next))
      const statuses: WaitStatus[] = []
      const at: number[] = []
      const onWait = (status: WaitStatus) => {
        at.push(performance.now())
        statuses.push(status)
        if (statuses.length === 1) renameSync(other, path)
      }
      const before = performance.now()
      const error = await rejection(acquire({ cwd, timeout: 2600, onWait }))
      const left = performance.now() - (at.at(-1) ?? before)
      const times = statuses.length
      // At the start, after one second, after two. A late call delays those after it; none is omitted.
      assert.ok(times <= 3 && left < 1000 + LATE, `${times} calls, and ${left} ms after the last one`)
      assert.equal(statuses[0]?.holder?.pid, peers[0].child.pid)
      for (const status of statuses.slice(1)) assert.deepEqual(status.holder, next)
      assert.deepEqual(error.holder, next)
      const missing: number[] = []
      for (const [index, status] of statuses.entries()) {
        assert.equal(status.path, path)
        const passed = (at[index] ?? 0) - before
        assert.ok(Number.isInteger(status.waited), `${status.waited}`)
        missing.push(passed - status.waited)
        const gap = (at[index] ?? 0) - (at[index - 1] ?? Number.NEGATIVE_INFINITY)
        assert.ok(gap >= 1000, `${gap} ms after the previous call`)
      }
      assert.ok((statuses[0]?.waited ?? 0) < 1000)
      const shown = missing.map((time) => time.toFixed(1)).join(' ')
      assert.ok(
        missing.every((time) => time > -1 && time < LATE),
        `${shown} ms are missing`,
      )
      assert.ok(Math.min(...missing) < 50, `${shown} ms are missing`)
      if (name !== 'acquireLock') return
      await sleep(1100, 'a wait that continues would call onWait again')
      assert.equal(statuses.length, times, 'onWait was called after the end of the wait')
    }),
  )
}

for (const [name, acquire] of calls) {
  test(`${name} does not call onWait if it does not wait`, async (t) => {
    const cwd = directory(t)
    const onWait = () => assert.fail('onWait was called')
    const lock = await acquireLock({ cwd, timeout: 1000, onWait })
    assert.equal((await rejection(acquire({ cwd, onWait }))).code, 'E_LOCK_CONTENTION')
    await lock.release()
    const again = await acquire({ cwd, timeout: 1000, onWait })
    await again.release()
  })

  test(`${name} rejects if onWait is not a function`, async (t) => {
    const cwd = directory(t)
    for (const onWait of [null, 'x', 1, {}, true]) {
      for (const timeout of [0, 1000]) {
        const options = { cwd, timeout, onWait } as unknown as AcquireOptions
        const error = await rejection(acquire(options))
        assert.ok(error instanceof TypeError)
        assert.equal(error.code, 'ERR_INVALID_ARG_TYPE')
        assert.match(error.message, /"options\.onWait" argument must be of type function/)
      }
    }
    assert.deepEqual(readdirSync(cwd), [])
    await (await acquire({ cwd, onWait: undefined })).release()
  })

  test(`an error thrown by onWait ends the wait (${name})`, async (t) => {
    const [cwd, peer] = [directory(t), new Peer(t)]
    await peer.acquire(cwd)
    const about = { code: 'E_LOCK_CONTENTION', path: '/other', recoverable: true } as const
    const ofAnother = new LockError('of another lock', about)
    for (const thrown of [new Error('mine'), ofAnother, 'a string', undefined]) {
      const before = performance.now()
      const failing = () => {
        throw thrown
      }
      assert.equal(await rejection(acquire({ cwd, timeout: 20_000, onWait: failing })), thrown)
      assert.ok(performance.now() - before < 10_000)
    }
    let times = 0
    const failing = () => {
      times += 1
      if (times === 2) throw new Error('the second time')
    }
    const error = await rejection(acquire({ cwd, timeout: 20_000, onWait: failing }))
    assert.deepEqual([error.message, times], ['the second time', 2])
    await peer.ask({ do: 'release', cwd })
    await sleep(30, 'a wait that continues would acquire the lock')
    assert.equal(existsSync(resolveLockPath(cwd)), false, 'the wait acquired the lock')
  })

  test(`${name} rolls back if onWait throws while acquiring`, async (t) => {
    const cwd = directory(t)
    // A synchronous call does not wait for a lock of its own thread, but for one of another copy.
    const other = loaded(copied(t))
    let free = 0
    for (const pause of [0, 0.1, 0.3, 1, 20, 20, 20, 20, 20]) {
      const holder = other.acquireLockSync(cwd)
      const onWait = () => {
        holder.releaseSync()
        for (const end = performance.now() + pause; performance.now() < end; );
        throw new Error('mine')
      }
      assert.equal((await rejection(acquire({ cwd, timeout: 20_000, onWait }))).message, 'mine')
      if (pause === 20 && readdirSync(cwd).length === 0) free += 1
      await emptied(cwd)
    }
    // On a busy machine a rejection does not wait for every release.
    assert.ok(free >= 3, `the acquired lock was still held, ${5 - free} times`)
    await sleep(50, 'a wait that continues would acquire the lock')
    assert.deepEqual(readdirSync(cwd), [])
  })
}

test('onWait receives a reason if the holder cannot be checked', async (t) => {
  const cwd = directory(t)
  const lock = await acquireLock(cwd)
  const record = readRecord(lock.path)
  await lock.release()
  leave(cwd, { ...record, bootId: '00000000-0000-4000-8000-000000000000', host: 'elsewhere', fs: 'shared' })
  const statuses: WaitStatus[] = []
  await rejection(acquireLock({ cwd, timeout: 500, onWait: (status) => statuses.push(status) }))
  assert.equal(statuses.length, 1)
  assert.equal(statuses[0]?.holder?.host, 'elsewhere')
  assert.match(String(statuses[0]?.reason), /cannot check processes of another one/)
})

test('withLock waits and calls fn with the lock', async (t) => {
  const cwd = directory(t)
  const holder = await acquireLock(cwd)
  let [waits, ran] = [0, 0]
  const onWait = () => {
    waits += 1
    later(20, 'the wait lasts a moment', () => holder.release())
  }
  const { signal } = new AbortController()
  const result = await withLock(
    (lock) => {
      ran += 1
      return lock.isHeld()
    },
    { cwd, timeout: 20_000, signal, onWait },
  )
  assert.deepEqual([result, waits, ran], [true, 1, 1])
  assert.deepEqual(readdirSync(cwd), [])
})
