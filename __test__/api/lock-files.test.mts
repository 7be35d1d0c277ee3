// Files at the path: lock files with other names, copies of lock files, and files without a lock record.
import assert from 'node:assert/strict'
import {
  chmodSync,
  cpSync,
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { acquireLock, acquireLockSync, breakLock, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { deadPid, directory, isWindows, leave, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { noDeletion } from '../support/wine.mjs'

test(
  'a second hard link does not release a held lock',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    const holder = new Peer(t)
    await holder.acquire(cwd)
    const waiting = acquireLock({ cwd, timeout: Number.POSITIVE_INFINITY })
    const snapshot = join(cwd, 'snapshot')
    linkSync(resolveLockPath(cwd), snapshot)
    assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
    assert.equal(inspectLockSync(cwd).state, 'held')
    const record = readFileSync(snapshot, 'utf8')
    await holder.ends('SIGKILL')
    const lock = await waiting
    assert.equal(lock.takenOver?.holder?.pid, holder.child.pid)
    assert.equal(readFileSync(snapshot, 'utf8'), record, 'the snapshot was not written')
    assert.equal(statSync(lock.path).nlink, 1)
    await lock.release()
    assert.ok(!existsSync(lock.path))
    linkSync(snapshot, lock.path)
    assert.equal(inspectLockSync(cwd).state, 'stale')
    assert.equal(await breakLock(cwd), true)
    linkSync(snapshot, lock.path)
    assert.equal(await breakLock({ cwd, force: true }), true)
    assert.equal(readFileSync(snapshot, 'utf8'), record)
  }),
)

test('acquireLock and breakLock keep a hard-linked file without a record', async (t) => {
  const cwd = directory(t)
  const data = join(cwd, 'data')
  writeFileSync(data, 'id,amount\n')
  linkSync(data, resolveLockPath(cwd))
  for (const call of [acquireLock, breakLock])
    assert.equal((await rejection(call(cwd))).code, 'E_LOCK_NOT_A_FILE')
  assert.equal((await rejection(breakLock({ cwd, force: true }))).code, 'E_LOCK_NOT_A_FILE')
  assert.deepEqual([readFileSync(data, 'utf8'), statSync(data).nlink], ['id,amount\n', 2])
})

test('a copy of a held lock file is stale', async (t) => {
  const parent = directory(t)
  const [original, copy] = [join(parent, 'original'), join(parent, 'copy')]
  mkdirSync(original)
  const held = acquireLockSync(original)
  cpSync(original, copy, { recursive: true, preserveTimestamps: true })
  const { state, reason } = inspectLockSync(copy)
  assert.deepEqual([state, reason], ['stale', 'the file is a copy: its record names another file'])
  const lock = await acquireLock(copy)
  assert.equal(lock.takenOver?.holder?.pid, process.pid)
  await lock.release()
  assert.ok(held.isHeld(), 'the original is still held')
  held.releaseSync()
})

for (const content of ['id,amount\n', '#!/bin/sh\nexit 0\n', `{"pid":1,"createdAt":5}${' '.repeat(600)}`]) {
  test(`acquireLock and breakLock keep a data file: ${JSON.stringify(content.slice(0, 30))}`, async (t) => {
    const cwd = directory(t)
    const path = join(cwd, 'books.csv')
    writeFileSync(path, content)
    if (!isWindows) chmodSync(path, 0o751)
    const before = statSync(path)
    for (const call of [acquireLock, breakLock]) {
      const error = await rejection(call({ cwd, file: 'books.csv' }))
      assert.equal(error.code, 'E_LOCK_NOT_A_FILE')
      assert.match(error.message, /books\.csv as a lock file: it is a file that contains no lock record/)
    }
    assert.throws(() => inspectLockSync({ cwd, file: path }), { code: 'E_LOCK_NOT_A_FILE' })
    const { mode, ino, mtimeMs } = statSync(path)
    assert.deepEqual([mode, ino, mtimeMs], [before.mode, before.ino, before.mtimeMs])
    assert.equal(readFileSync(path, 'utf8'), content)
    assert.equal(await breakLock({ cwd, file: path, force: true }), true)
  })
}

test('acquireLock takes over a stale file with a custom name', async (t) => {
  const cwd = directory(t)
  const record = JSON.stringify({ pid: deadPid(), createdAt: 5 })
  for (const content of ['', '{', record.slice(0, 9), record, `${record}\n`, Buffer.alloc(512)]) {
    leave(cwd, content, 60, 'own.lock')
    const lock = await acquireLock({ cwd, file: 'own.lock' })
    assert.ok(lock.takenOver)
    await lock.release()
  }
})

test('acquireLock takes over any content at the legacy path', async (t) => {
  const cwd = directory(t)
  leave(cwd, 'hello')
  const lock = await acquireLock(cwd)
  assert.equal(lock.takenOver?.reason, 'the file did not contain a lock record')
  await lock.release()
})

test('a lost lock reports what the path names now', {
  skip: isWindows && 'Windows keeps the directory of an open file',
}, async (t) => {
  const parent = directory(t)
  for (const name of ['a', 'b']) mkdirSync(join(parent, name))
  const link = join(parent, 'current')
  symlinkSync('a', link)
  const repoint = (target: string) => {
    symlinkSync(target, `${link}.new`)
    renameSync(`${link}.new`, link)
  }
  const lost = async (change: () => void) => {
    repoint('a')
    const lock = await acquireLock(link)
    change()
    const error = await rejection(lock.release())
    rmSync(resolveLockPath(join(parent, 'a')), { force: true })
    return [error.code, error.reason]
  }
  assert.deepEqual(await lost(() => repoint('b')), ['E_LOCK_LOST', 'the path no longer names a file'])
  const other = acquireLockSync(join(parent, 'b'))
  assert.deepEqual(await lost(() => repoint('b')), ['E_LOCK_LOST', 'the path names another file now'])
  assert.ok(other.isHeld())
  other.releaseSync()
})
