import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { acquireLock, breakLock, inspectLock, LockError, resolveLockPath } from 'reconcile-lock'
import { Peer, send } from '../support/child.mjs'
import {
  deadPid,
  directory,
  isLinux,
  leave,
  MESSAGE,
  readRecord,
  rejection,
  withoutSignals,
} from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { sleep, until } from '../support/time.mjs'
import { processState } from '../support/waiter.mjs'

const startTime: KnownFailure = {
  platform: 'qemu',
  why: 'qemu makes up /proc/self/stat, and with it another start time than other processes read',
}

/** A record that this process wrote, with some fields replaced. */
async function record(cwd: string, fields: object): Promise<object> {
  const lock = await acquireLock(cwd)
  const written = readRecord(lock.path)
  await lock.release()
  return { ...written, ...fields }
}

/** The same of another process, which lives on. */
async function recordOfPeer(t: TestContext, cwd: string, fields: object): Promise<object> {
  const peer = new Peer(t)
  await peer.acquire(cwd)
  const written = readRecord(resolveLockPath({ cwd }))
  await peer.ask({ do: 'release', cwd })
  return { ...written, ...fields }
}

async function isHeld(cwd: string, content: string | object): Promise<string> {
  const path = leave(cwd, content)
  const before = readFileSync(path)
  const error = await rejection(acquireLock(cwd))
  assert.ok(error instanceof LockError)
  assert.deepEqual([error.code, error.message, error.recoverable], ['E_LOCK_CONTENTION', MESSAGE, true])
  assert.equal((await rejection(breakLock(cwd))).code, 'E_LOCK_CONTENTION')
  const status = await inspectLock(cwd)
  assert.equal(status.state, 'held')
  assert.deepEqual(readFileSync(path), before)
  assert.equal(await breakLock({ cwd, force: true }), true)
  return status.reason
}

async function isStale(cwd: string, content: string | object, reason: RegExp): Promise<void> {
  leave(cwd, content)
  const status = await inspectLock(cwd)
  assert.equal(status.state, 'stale')
  assert.match(status.reason, reason)
  const lock = await acquireLock(cwd)
  assert.equal(lock.takenOver?.reason, status.reason)
  await lock.release()
}

test('an empty file younger than 2 s is being born: it is waited for, then taken over', async (t) => {
  const cwd = directory(t)
  const before = Date.now()
  leave(cwd, '', 0)
  assert.equal((await inspectLock(cwd)).state, 'held')
  const lock = await acquireLock(cwd)
  const waited = Date.now() - before
  assert.ok(waited >= 1900 && waited < 5000, `waited ${waited} ms`)
  assert.match(lock.takenOver?.reason ?? '', /the file was empty/)
  await lock.release()
})

test('an empty file of a later time is taken over at once: the clock was set back since', async (t) => {
  const cwd = directory(t)
  leave(cwd, '', -3600)
  assert.equal((await inspectLock(cwd)).state, 'stale')
  const before = Date.now()
  const lock = await acquireLock(cwd)
  const waited = Date.now() - before
  assert.ok(waited < 1000, `waited ${waited} ms`)
  assert.match(lock.takenOver?.reason ?? '', /the file was empty/)
  await lock.release()
})

test('an empty file that a clock a little ahead of ours dates is left to its creator', async (t) => {
  const cwd = directory(t)
  leave(cwd, '', -1)
  assert.equal((await inspectLock(cwd)).state, 'held')
  const before = Date.now()
  const lock = await acquireLock(cwd)
  const waited = Date.now() - before
  assert.ok(waited >= 1900 && waited < 5000, `waited ${waited} ms`)
  await lock.release()
})

test('an empty file whose creator writes meanwhile is its lock', async (t) => {
  const cwd = directory(t)
  const path = leave(cwd, '', 0)
  const refused = rejection(acquireLock(cwd))
  await sleep(50, 'the call looks at the empty file')
  writeFileSync(path, JSON.stringify({ pid: process.ppid, createdAt: 5 }))
  const error = await refused
  assert.deepEqual(error.holder, { pid: process.ppid, createdAt: 5 })
})

test('an empty file that is older is stale', async (t) => {
  await isStale(directory(t), '', /empty/)
})

test('a record without a boot id is held by a live pid, however old', async (t) => {
  const reason = await isHeld(directory(t), { pid: process.ppid, createdAt: 1 })
  assert.match(reason, new RegExp(`process ${process.ppid} holds it since 1970-01-01T00:00:00.001Z`))
})

test('a record without a boot id and with a dead pid is stale', async (t) => {
  const pid = deadPid()
  await isStale(directory(t), { pid, createdAt: 1 }, new RegExp(`process ${pid} ended without releasing`))
})

test('a zombie is as dead, though a signal still finds it', { skip: withoutSignals }, async (t) => {
  // The shell starts a child and becomes a program that never waits for it.
  const script = 'sleep 60 & echo $!; exec sleep 60'
  const parent = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] })
  t.after(() => parent.kill('SIGKILL'))
  const pid = Number(await new Promise((resolve) => parent.stdout.once('data', resolve)))
  process.kill(pid, 'SIGKILL')
  await until(() => processState(pid) === 'Z', 'the child is a zombie')
  assert.doesNotThrow(() => process.kill(pid, 0))
  await isStale(directory(t), { pid, createdAt: 1 }, /ended without releasing/)
})

test(
  'our boot, a live pid and its start time: held, whatever the kernel lock says',
  knownFailure(startTime, async (t) => {
    const cwd = directory(t)
    await isHeld(cwd, await recordOfPeer(t, cwd, {}))
  }),
)

test('our boot, a live pid with another start time: stale', async (t) => {
  const cwd = directory(t)
  await isStale(cwd, await record(cwd, { startTime: 1 }), /another process has its pid/)
})

test('our boot, a live pid of another pid namespace: stale', {
  skip: !isLinux && 'only Linux has pid namespaces',
}, async (t) => {
  const cwd = directory(t)
  await isStale(cwd, await record(cwd, { pidNs: 1 }), /pid namespace/)
})

test('our boot, a dead pid: stale', async (t) => {
  const cwd = directory(t)
  await isStale(cwd, await record(cwd, { pid: deadPid() }), /ended without releasing/)
})

test('another boot on a local filesystem: the machine was restarted', async (t) => {
  const cwd = directory(t)
  await isStale(cwd, await record(cwd, { bootId: 'before' }), /^the machine was restarted, /)
})

for (const fs of ['shared', 'something new', undefined]) {
  test(`another boot and a filesystem that its holder calls ${fs}: held, with the host's name`, async (t) => {
    const cwd = directory(t)
    const pid = deadPid()
    const reason = await isHeld(cwd, await record(cwd, { bootId: 'other', host: 'ledger-2', fs, pid }))
    assert.match(reason, /ledger-2/)
    assert.match(reason, /with force/)
    assert.match(reason, /PostgreSQL/)
  })
}

test(
  'keys of a newer version are passed over',
  knownFailure(startTime, async (t) => {
    const cwd = directory(t)
    await isHeld(cwd, await recordOfPeer(t, cwd, { v: 2, lease: { until: 5 } }))
  }),
)

test('a holder that is stopped still holds', { skip: withoutSignals }, async (t) => {
  const cwd = directory(t)
  const holder = new Peer(t)
  await holder.acquire(cwd)
  send(holder.child, 'SIGSTOP')
  // Longer than an empty file belongs to its creator, the longest time that decides about a lock.
  for (let round = 0; round < 10; round += 1) {
    const error = await rejection(acquireLock(cwd))
    assert.equal((error.holder as { pid: number }).pid, holder.child.pid)
    assert.equal((await inspectLock(cwd)).state, 'held')
    await sleep(250, 'a holder is stopped for two seconds and more')
  }
  send(holder.child, 'SIGCONT')
  assert.equal((await holder.ask({ do: 'release', cwd })).ok, true)
  assert.equal((await inspectLock(cwd)).state, 'free')
})

test('the record names no command, no environment and no user', async (t) => {
  const cwd = directory(t)
  const lock = await acquireLock(cwd)
  const keys = Object.keys(readRecord(resolveLockPath(cwd)))
  const known = ['pid', 'createdAt', 'host', 'bootId', 'startTime', 'pidNs', 'thread', 'fs', 'file', 'v']
  assert.deepEqual(keys, isLinux ? known : known.filter((key) => key !== 'pidNs'))
  await lock.release()
})
