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
import { knownFailure } from '../support/known-failure.mjs'
import { noNanoseconds } from '../support/qemu.mjs'
import { sleep, until } from '../support/time.mjs'
import { processState, programOf } from '../support/waiter.mjs'
import { within } from '../support/within.mjs'

/** A record that this process wrote, with some fields replaced. */
async function record(cwd: string, fields: object): Promise<object> {
  const lock = await acquireLock(cwd)
  const written = readRecord(lock.path)
  await lock.release()
  return { ...written, ...fields }
}

/** The same for another process, which stays alive. */
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

test(
  'acquireLock waits for a new empty file, then takes over',
  knownFailure(noNanoseconds, async (t) => {
    const cwd = directory(t)
    const before = Date.now()
    leave(cwd, '', 0)
    assert.equal((await inspectLock(cwd)).state, 'held')
    const lock = await acquireLock(cwd)
    const waited = Date.now() - before
    assert.ok(waited >= 1900 && waited < 5000, `waited ${waited} ms`)
    assert.match(lock.takenOver?.reason ?? '', /the file was empty/)
    await lock.release()
  }),
)

test('acquireLock takes over an empty file from the future', async (t) => {
  // The clock was set back after it was created.
  const cwd = directory(t)
  await within(1000, async () => {
    leave(cwd, '', -3600)
    assert.equal((await inspectLock(cwd)).state, 'stale')
    const before = Date.now()
    const lock = await acquireLock(cwd)
    const waited = Date.now() - before
    assert.match(lock.takenOver?.reason ?? '', /the file was empty/)
    await lock.release()
    return waited
  })
})

test('an empty file dated one second ahead is being created', async (t) => {
  const cwd = directory(t)
  leave(cwd, '', -1)
  assert.equal((await inspectLock(cwd)).state, 'held')
  const before = Date.now()
  const lock = await acquireLock(cwd)
  const waited = Date.now() - before
  assert.ok(waited >= 1900 && waited < 5000, `waited ${waited} ms`)
  await lock.release()
})

test('acquireLock is refused when the creator writes its record', async (t) => {
  const cwd = directory(t)
  const path = leave(cwd, '', 0)
  const refused = rejection(acquireLock(cwd))
  await sleep(50, 'the call has read the empty file by then')
  writeFileSync(path, JSON.stringify({ pid: process.ppid, createdAt: 5 }))
  const error = await refused
  assert.deepEqual(error.holder, { pid: process.ppid, createdAt: 5 })
})

test('an empty file older than 2 s is stale', async (t) => {
  await isStale(directory(t), '', /empty/)
})

test('a legacy record with a live pid is held', async (t) => {
  const reason = await isHeld(directory(t), { pid: process.ppid, createdAt: 1 })
  assert.match(reason, new RegExp(`process ${process.ppid} has held it since 1970-01-01T00:00:00.001Z`))
})

test('a legacy record with a dead pid is stale', async (t) => {
  const pid = deadPid()
  await isStale(directory(t), { pid, createdAt: 1 }, new RegExp(`process ${pid} ended without releasing`))
})

test('the lock of a zombie process is stale', { skip: withoutSignals }, async (t) => {
  // The shell starts a child and becomes a program that never waits for it.
  const script = 'sleep 60 & echo $!; exec sleep 60'
  const parent = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] })
  t.after(() => parent.kill('SIGKILL'))
  const pid = Number(await new Promise((resolve) => parent.stdout.once('data', resolve)))
  // Until then the shell may wait for the child.
  await until(() => /sleep/.test(programOf(parent.pid)), 'the shell has become the program')
  process.kill(pid, 'SIGKILL')
  await until(() => processState(pid) === 'Z', 'the child is a zombie')
  assert.doesNotThrow(() => process.kill(pid, 0))
  await isStale(directory(t), { pid, createdAt: 1 }, /ended without releasing/)
})

test('a live pid with its start time is held', async (t) => {
  const cwd = directory(t)
  await isHeld(cwd, await recordOfPeer(t, cwd, {}))
})

test('a live pid with another start time is stale', async (t) => {
  const cwd = directory(t)
  await isStale(cwd, await record(cwd, { startTime: 1 }), /another process has its pid/)
})

test('a live pid of another pid namespace is stale', {
  skip: !isLinux && 'only Linux has pid namespaces',
}, async (t) => {
  const cwd = directory(t)
  await isStale(cwd, await record(cwd, { pidNs: 1 }), /pid namespace/)
})

// A kernel lock of FUSE, and one of NFS with `local_lock`, is that of one mount.
for (const [what, fields] of [
  ["another namespace's pid", { pidNs: 1 }],
  ['its own pid', {}],
] as const) {
  test(`${what} recorded by another mount is held`, {
    skip: !isLinux && 'only Linux has pid namespaces',
  }, async (t) => {
    const cwd = directory(t)
    // As text, because an object would get the number of the file.
    const content = await record(cwd, { ...fields, fs: 'shared', file: '1:1' })
    await isHeld(cwd, JSON.stringify(content))
  })
}

test('a dead pid of the same boot is stale', async (t) => {
  const cwd = directory(t)
  await isStale(cwd, await record(cwd, { pid: deadPid() }), /ended without releasing/)
})

test('a local record of another boot is stale', async (t) => {
  const cwd = directory(t)
  await isStale(cwd, await record(cwd, { bootId: 'before' }), /^the machine was restarted, /)
})

for (const fs of ['shared', 'something new', undefined]) {
  test(`a record with another boot, fs ${fs}, is held`, async (t) => {
    const cwd = directory(t)
    const pid = deadPid()
    const reason = await isHeld(cwd, await record(cwd, { bootId: 'other', host: 'ledger-2', fs, pid }))
    assert.match(reason, /ledger-2/)
    assert.match(reason, /with force/)
    assert.match(reason, /PostgreSQL/)
  })
}

test('unknown keys of a newer version are ignored', async (t) => {
  const cwd = directory(t)
  await isHeld(cwd, await recordOfPeer(t, cwd, { v: 2, lease: { until: 5 } }))
})

test('a stopped process keeps its lock', { skip: withoutSignals }, async (t) => {
  const cwd = directory(t)
  const holder = new Peer(t)
  await holder.acquire(cwd)
  send(holder.child, 'SIGSTOP')
  // Longer than the creation grace period, the longest time that a decision depends on.
  for (let round = 0; round < 10; round += 1) {
    const error = await rejection(acquireLock(cwd))
    assert.equal((error.holder as { pid: number }).pid, holder.child.pid)
    assert.equal((await inspectLock(cwd)).state, 'held')
    await sleep(250, 'the holder stays stopped for more than two seconds')
  }
  send(holder.child, 'SIGCONT')
  assert.equal((await holder.ask({ do: 'release', cwd })).ok, true)
  assert.equal((await inspectLock(cwd)).state, 'free')
})

test('the record contains no command, environment or user', async (t) => {
  const cwd = directory(t)
  const lock = await acquireLock(cwd)
  const keys = Object.keys(readRecord(resolveLockPath(cwd)))
  const known = ['pid', 'createdAt', 'host', 'bootId', 'startTime', 'pidNs', 'thread', 'fs', 'file', 'v']
  assert.deepEqual(keys, isLinux ? known : known.filter((key) => key !== 'pidNs'))
  await lock.release()
})
