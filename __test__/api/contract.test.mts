// The faults of the legacy lock. Each test shows one of them (the control), and that this lock lacks it.
import assert from 'node:assert/strict'
import { chownSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { acquireLock, inspectLock, releaseLock, resolveLockPath } from 'reconcile-lock'
import * as legacy from '../legacy/lock.mjs'
import { Peer } from '../support/child.mjs'
import {
  deadPid,
  directory,
  fill,
  leave,
  MESSAGE,
  mounted,
  readRecord,
  rejection,
} from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { noDeletion } from '../support/wine.mjs'

test('acquireLock reports contention instead of a raw EEXIST', async (t) => {
  const cwd = directory(t)
  const beforeCreate = async () => writeFileSync(legacy.resolveLockPath(cwd), '')
  assert.equal((await rejection(legacy.acquireLock(cwd, { beforeCreate }))).code, 'EEXIST', 'the control')

  const race = directory(t)
  const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => acquireLock(race)))
  const refused = outcomes.filter((outcome) => outcome.status === 'rejected').map((outcome) => outcome.reason)
  assert.equal(refused.length, 49)
  for (const error of refused) assert.deepEqual([error.code, error.message], ['E_LOCK_CONTENTION', MESSAGE])
})

test('one of 50 calls takes over a stale lock', async (t) => {
  const cwd = directory(t)
  leave(cwd, { pid: deadPid(), createdAt: 1 })
  const slow = legacy.acquireLock(cwd, { beforeUnlink: () => legacy.acquireLock(cwd) })
  await assert.doesNotReject(slow, 'the control: both hold the lock')

  const here = directory(t)
  leave(here, { pid: deadPid(), createdAt: 1 })
  const outcomes = await Promise.allSettled(Array.from({ length: 50 }, () => acquireLock(here)))
  assert.equal(outcomes.filter((outcome) => outcome.status === 'fulfilled').length, 1)
})

test('a lock of another user is held', async (t) => {
  const eperm = () => {
    throw Object.assign(new Error('kill EPERM'), { code: 'EPERM' })
  }
  const cwd = directory(t)
  leave(cwd, { pid: 1, createdAt: 1 })
  await assert.doesNotReject(legacy.acquireLock(cwd, { kill: eperm }), 'the control: taken over')

  if (process.getuid?.() !== 0) return t.skip('only root can act as another user')
  const theirs = directory(t)
  const path = leave(theirs, { pid: 1, createdAt: 1 })
  chownSync(theirs, 65534, 65534)
  chownSync(path, 65534, 65534)
  const other = new Peer(t, { uid: 65534 })
  assert.equal((await other.acquire(theirs)).message, MESSAGE)
})

test('a reused pid does not keep the lock', async (t) => {
  const cwd = directory(t)
  leave(cwd, { pid: process.ppid, createdAt: 1 })
  assert.equal((await rejection(legacy.acquireLock(cwd))).code, 'E_LOCK_CONTENTION', 'the control: locked')

  leave(cwd, 'no record')
  const killed = new Peer(t)
  assert.equal((await killed.acquire(cwd)).ok, true)
  await killed.ends('SIGKILL')
  const record = { ...readRecord(resolveLockPath(cwd)), pid: process.ppid }
  leave(cwd, record)
  const lock = await acquireLock(cwd)
  assert.match(lock.takenOver?.reason ?? '', /another process has its pid/)
  await lock.release()
})

test('a stale record with our pid is taken over', async (t) => {
  const cwd = directory(t)
  leave(cwd, { pid: process.pid, createdAt: 1 })
  assert.equal((await rejection(legacy.acquireLock(cwd))).code, 'E_LOCK_CONTENTION', 'the control: locked')

  leave(cwd, 'no record')
  const killed = new Peer(t)
  assert.equal((await killed.acquire(cwd)).ok, true)
  await killed.ends('SIGKILL')
  leave(cwd, { ...readRecord(resolveLockPath(cwd)), pid: process.pid })
  await (await acquireLock(cwd)).release()
})

for (const pid of [0, -1]) {
  test(`acquireLock does not signal pid ${pid}`, async (t) => {
    const signalled: number[] = []
    const cwd = directory(t)
    leave(cwd, { pid, createdAt: 1 })
    await rejection(legacy.acquireLock(cwd, { kill: (target) => Boolean(signalled.push(target)) }))
    assert.deepEqual(signalled, [pid], 'the control: it signals a process group')

    const lock = await acquireLock(cwd)
    assert.equal(lock.takenOver?.reason, 'the file did not contain a lock record')
    await lock.release()
  })
}

test('acquireLock leaves no file if the disk is full', async (t) => {
  const cwd = mounted(t, 'size=64k')
  if (cwd === undefined) return
  fill(cwd)
  const path = resolveLockPath(cwd)
  assert.equal((await rejection(legacy.acquireLock(cwd))).code, 'ENOSPC')
  assert.equal(readFileSync(path, 'utf8'), '', 'the control: an empty file stays')
  await legacy.releaseLock(cwd)
  assert.equal((await rejection(acquireLock(cwd))).code, 'ENOSPC')
  assert.equal(existsSync(path), false)
})

test('acquireLock takes over an empty file', async (t) => {
  const cwd = directory(t)
  leave(cwd, '')
  assert.equal((await inspectLock(cwd)).state, 'stale')
  const lock = await acquireLock(cwd)
  assert.match(lock.takenOver?.reason ?? '', /empty/)
  await lock.release()
  assert.equal(existsSync(lock.path), false)
})

test(
  'releaseLock keeps the lock of another process',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    const holder = new Peer(t)
    await holder.acquire(cwd)
    const before = readFileSync(resolveLockPath(cwd))
    await releaseLock(cwd)
    assert.deepEqual(readFileSync(resolveLockPath(cwd)), before)
    await legacy.releaseLock(cwd)
    assert.equal(existsSync(resolveLockPath(cwd)), false, 'the control: removed')
  }),
)

test('the legacy lock stays after process.exit (control)', async (t) => {
  const cwd = directory(t)
  const holder = new Peer(t)
  assert.equal((await holder.acquire(cwd, 'legacy')).ok, true)
  await holder.ends({ do: 'exit', cwd })
  assert.equal(existsSync(resolveLockPath(cwd)), true)
  const kill = (pid: number) => pid === holder.child.pid
  assert.equal((await rejection(legacy.acquireLock(cwd, { kill }))).code, 'E_LOCK_CONTENTION')
})

for (const how of ['SIGKILL', 'SIGTERM', 'SIGINT', 'exit', 'throw', 'end'] as const) {
  test(`acquireLock succeeds after the holder ends by ${how}`, async (t) => {
    const cwd = directory(t)
    const holder = new Peer(t)
    assert.equal((await holder.acquire(cwd)).ok, true)
    const signal = how.startsWith('SIG')
    await holder.ends(signal ? (how as NodeJS.Signals) : { do: how as 'exit', cwd })
    assert.equal(existsSync(resolveLockPath(cwd)), signal, 'only a signal leaves the file')
    assert.equal((await inspectLock(cwd)).state, signal ? 'stale' : 'free')
    const lock = await acquireLock(cwd)
    const pid = holder.child.pid
    assert.equal(lock.takenOver?.reason, signal ? `process ${pid} ended without releasing` : undefined)
    assert.equal(lock.takenOver?.holder?.pid, signal ? pid : undefined)
    await lock.release()
  })
}
