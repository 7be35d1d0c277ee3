import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  acquireLock,
  acquireLockSync,
  inspectLock,
  inspectLockSync,
  releaseLock,
  resolveLockPath,
} from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { deadPid, directory, fill, leave, MESSAGE, mounted, rejection } from '../support/directory.mjs'
import { written } from '../support/program.mjs'

/** The error of `node:fs` for the creation of the same path. */
function nodes(path: string): Record<string, unknown> {
  try {
    fs.closeSync(fs.openSync(path, 'wx'))
  } catch (error) {
    const { name, message, code, errno, syscall } = error as NodeJS.ErrnoException
    return { name, message, code, errno, syscall, path: (error as NodeJS.ErrnoException).path }
  }
  throw new Error('node:fs was not refused')
}

const seen = ({ name, message, code, errno, syscall, path }: Error & Record<string, unknown>) => {
  return { name, message, code, errno, syscall, path }
}

const file = (path: string) => {
  fs.writeFileSync(path, '')
  return path
}
const loop = (path: string) => {
  fs.symlinkSync(path, path)
  return path
}

for (const [what, place] of [
  ['ENOENT', (cwd: string) => join(cwd, 'missing')],
  ['ENOTDIR', (cwd: string) => file(join(cwd, 'file'))],
  ['ENAMETOOLONG', (cwd: string) => join(cwd, 'x'.repeat(300))],
  ['ELOOP', (cwd: string) => loop(join(cwd, 'loop'))],
] as const) {
  test(`${what} has the form of a node:fs error`, async (t) => {
    const cwd = place(directory(t))
    const expected = nodes(resolveLockPath(cwd))
    assert.equal(expected.code, what)
    assert.deepEqual(seen(await rejection(acquireLock({ cwd }))), expected)
    // A lock in a missing directory is free.
    if (what !== 'ENOENT') assert.deepEqual(seen(await rejection(inspectLock({ cwd }))), expected)
    assert.throws(
      () => acquireLockSync({ cwd }),
      (error: Error & Record<string, unknown>) => {
        assert.deepEqual(seen(error), expected)
        return true
      },
    )
  })
}

test('acquireLock in an unwritable directory is EACCES', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can act as another user')
  const cwd = directory(t)
  const other = new Peer(t, { uid: 65534 })
  const answer = await other.acquire(cwd)
  assert.deepEqual([answer.ok, answer.code], [false, 'EACCES'])
  assert.match(answer.message ?? '', /^EACCES: permission denied, open '/)
  assert.deepEqual(fs.readdirSync(cwd), [])
})

for (const what of ['file', 'directory']) {
  test(`EPERM of an immutable ${what} names the attribute`, async (t) => {
    const cwd = directory(t)
    const path = resolveLockPath(cwd)
    if (what === 'file') leave(cwd, { pid: deadPid(), createdAt: 1 })
    const attribute = (sign: string) => spawnSync('chattr', [`${sign}i`, what === 'file' ? path : cwd])
    if (attribute('+').status !== 0) return t.skip('this user or filesystem sets no attributes')
    try {
      const { code, message } = await rejection(acquireLock(cwd))
      assert.equal(code, 'EPERM')
      assert.match(message, new RegExp(`, open '${path}'; the ${what} may be immutable .*\\(chattr`))
    } finally {
      attribute('-')
    }
  })
}

test('EACCES of an own 0600 file gives no advice', (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can act as another user')
  const cwd = directory(t)
  fs.chmodSync(cwd, 0o777)
  const lock = acquireLockSync(cwd)
  const program = written(
    t,
    cwd,
    'try { lock.acquireLockSync(cwd) } catch ({ message }) { console.log(message) }',
  )
  for (const entry of [program, join(program, '..')]) fs.chmodSync(entry, 0o755)
  // In a user namespace without a map every user is 65534.
  const user = ['--reuid=1000', '--clear-groups', 'unshare', '--user']
  const { stdout, stderr } = spawnSync('setpriv', [...user, process.execPath, program], { encoding: 'utf8' })
  if (stderr !== '') return t.skip(stderr)
  assert.equal(stdout, `EACCES: permission denied, open '${lock.path}'\n`)
  lock.releaseSync()
})

test('acquireLock on a read-only filesystem is EROFS', async (t) => {
  const cwd = mounted(t, 'ro')
  if (cwd === undefined) return
  assert.deepEqual(seen(await rejection(acquireLock(cwd))), nodes(resolveLockPath(cwd)))
  assert.equal((await inspectLock(cwd)).state, 'free')
})

test('acquireLock on a full disk is ENOSPC, without a file', async (t) => {
  const cwd = mounted(t, 'size=64k')
  if (cwd === undefined) return
  fill(cwd)
  const error = await rejection(acquireLock(cwd))
  assert.deepEqual([error.code, error.syscall], ['ENOSPC', 'write'])
  assert.deepEqual(fs.readdirSync(cwd), ['ballast'])
  fs.rmSync(join(cwd, 'ballast'))
  await (await acquireLock(cwd)).release()
})

test('a stale lock on a full disk is taken over', async (t) => {
  const cwd = mounted(t, 'size=64k')
  if (cwd === undefined) return
  const pid = deadPid()
  leave(cwd, { pid, createdAt: 1 })
  fill(cwd)
  const lock = await acquireLock(cwd)
  assert.equal(lock.takenOver?.holder?.pid, pid)
  await lock.release()
})

for (const umask of [0o777, 0o000]) {
  for (const uid of [0, 65534]) {
    test(`the lock file has mode 0600: umask ${umask.toString(8)}, uid ${uid}`, async (t) => {
      if (process.getuid?.() !== 0) return t.skip('only root can act as another user')
      const cwd = directory(t)
      fs.chownSync(cwd, uid, uid)
      const peers = Array.from({ length: 8 }, () => new Peer(t, { uid, umask }))
      for (let round = 0; round < 20; round += 1) {
        const at = Date.now() + 10
        const answers = await Promise.all(peers.map((peer) => peer.ask({ do: 'acquire', cwd, at })))
        assert.equal(answers.filter((answer) => answer.ok).length, 1)
        for (const answer of answers) if (!answer.ok) assert.equal(answer.message, MESSAGE)
        assert.equal(fs.statSync(resolveLockPath(cwd)).mode & 0o7777, 0o600)
        await Promise.all(peers.map((peer) => peer.ask({ do: 'release', cwd })))
      }
    })
  }
}

test('readers with umask 777 are not denied their file', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can act as another user')
  const [cwd, uid] = [directory(t), 65534]
  fs.chownSync(cwd, uid, uid)
  const peers = Array.from({ length: 8 }, () => new Peer(t, { uid, umask: 0o777 }))
  const options = { shared: true, legacy: false }
  for (let round = 0; round < 100; round += 1) {
    const at = Date.now() + 5
    const answers = await Promise.all(peers.map((peer) => peer.ask({ do: 'acquire', cwd, options, at })))
    for (const answer of answers) assert.equal(answer.ok, true, answer.message)
    await Promise.all(peers.map((peer) => peer.ask({ do: 'release', cwd })))
  }
})

test('a release that cannot remove its file frees the lock', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can act as another user')
  const cwd = directory(t)
  fs.chownSync(cwd, 65534, 65534)
  const other = new Peer(t, { uid: 65534 })
  assert.equal((await other.acquire(cwd)).ok, true)
  fs.chmodSync(cwd, 0o555)
  fs.chownSync(cwd, 0, 0)
  assert.equal((await other.ask({ do: 'release', cwd })).ok, true)
  assert.equal(inspectLockSync(cwd).state, 'free')
  const before = performance.now()
  const lock = await acquireLock(cwd)
  assert.equal(lock.takenOver, undefined)
  const took = performance.now() - before
  assert.ok(took < 1500, `it took ${took} ms`)
  await lock.release()
})

test('a release that changes nothing refuses others until the end', async (t) => {
  const cwd = directory(t)
  const path = resolveLockPath(cwd)
  const holder = new Peer(t)
  assert.equal((await holder.acquire(cwd)).ok, true)
  if (spawnSync('chattr', ['+i', path]).status !== 0)
    return t.skip('this user or filesystem sets no attributes')
  try {
    const { code, syscall } = await holder.ask({ do: 'release', cwd })
    assert.deepEqual([code, syscall], ['EPERM', 'unlink'])
  } finally {
    spawnSync('chattr', ['-i', path])
  }
  assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
  await holder.ends('SIGKILL')
  await (await acquireLock(cwd)).release()
})

test('releaseLock does not fail in a missing directory', async (t) => {
  await releaseLock(join(directory(t), 'missing'))
})
