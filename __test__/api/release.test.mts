// Releasing a lock, and what happens if its file was removed or replaced.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import * as fs from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  acquireLock,
  acquireLockSync,
  inspectLockSync,
  type Lock,
  releaseLock,
  releaseLockSync,
  resolveLockPath,
} from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { directory, isLinux, leave, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { noDeletion, noLinks } from '../support/wine.mjs'

/** Every way to release, as functions that return promises. */
const ways: Record<string, (lock: Lock, cwd: string) => Promise<void>> = {
  release: (lock) => lock.release(),
  releaseSync: async (lock) => lock.releaseSync(),
  releaseLock: (_, cwd) => releaseLock(cwd),
  releaseLockSync: async (_, cwd) => releaseLockSync(cwd),
  async using(lock) {
    using _ = lock
  },
  async 'await using'(lock) {
    await using _ = lock
  },
}

for (const [name, release] of Object.entries(ways)) {
  test(`${name} releases, and later releases are no-ops`, async (t) => {
    const cwd = directory(t)
    const lock = await acquireLock(cwd)
    assert.equal(lock.isHeld(), true)
    await release(lock, cwd)
    assert.equal(lock.isHeld(), false)
    assert.deepEqual(fs.readdirSync(cwd), [])
    for (const again of Object.values(ways)) await again(lock, cwd)
    const next = acquireLockSync(cwd)
    const old = Object.entries(ways).filter(([way]) => !way.startsWith('releaseLock'))
    for (const [, again] of old) await again(lock, cwd)
    assert.deepEqual(
      [lock.isHeld(), next.isHeld()],
      [false, true],
      'an old handle does not release a new lock',
    )
    await release(next, cwd)
    assert.deepEqual(fs.readdirSync(cwd), [])
  })
}

test('concurrent releases succeed and release once', async (t) => {
  const cwd = directory(t)
  let released = 0
  const count = () => {
    released += 1
  }
  subscribe('reconcile-lock:released', count)
  t.after(() => unsubscribe('reconcile-lock:released', count))
  for (let round = 0; round < 50; round += 1) {
    const lock = await acquireLock(cwd)
    await Promise.all([lock.release(), releaseLock(cwd), lock.release(), lock[Symbol.asyncDispose]()])
    assert.deepEqual(fs.readdirSync(cwd), [])
    assert.equal(released, round + 1)
  }
})

test('release returns its first promise, and releaseLock waits for it', async (t) => {
  const cwd = directory(t)
  for (let round = 0; round < 50; round += 1) {
    const lock = await acquireLock(cwd)
    const first = lock.release()
    assert.equal(lock.release(), first)
    await releaseLock(cwd)
    assert.deepEqual(fs.readdirSync(cwd), [])
    await first
    await lock.release()
  }
})

test('releaseLockSync does not release for a pending acquireLock', async (t) => {
  const cwd = directory(t)
  for (let round = 0; round < 20; round += 1) {
    const pending = acquireLock(cwd)
    releaseLockSync(cwd)
    const lock = await pending
    assert.ok(lock.isHeld())
    await lock.release()
  }
})

test('await using releases and rethrows the error of the block', async (t) => {
  const cwd = directory(t)
  const failure = new Error('mine')
  const block = async () => {
    await using lock = await acquireLock(cwd)
    assert.equal(lock.isHeld(), true)
    throw failure
  }
  assert.equal(await rejection(block()), failure)
  assert.deepEqual(fs.readdirSync(cwd), [])
})

/** Ways to remove or replace a lock file; the result checks that a release changed nothing. */
const losses: Record<string, (path: string) => () => boolean> = {
  'its file is removed'(path) {
    fs.rmSync(path)
    return () => !fs.existsSync(path)
  },
  'another file replaces it'(path) {
    fs.rmSync(path)
    fs.writeFileSync(path, 'of another process')
    return () => fs.readFileSync(path, 'utf8') === 'of another process'
  },
  'a copy replaces it'(path) {
    fs.copyFileSync(path, `${path}.copy`)
    fs.renameSync(`${path}.copy`, path)
    return () => fs.readFileSync(path, 'utf8').startsWith(`{"pid":${process.pid},`)
  },
  'a symbolic link replaces it'(path) {
    fs.renameSync(path, `${path}.moved`)
    fs.symlinkSync(`${path}.moved`, path)
    return () => fs.lstatSync(path).isSymbolicLink() && fs.existsSync(`${path}.moved`)
  },
  'a directory replaces it'(path) {
    fs.rmSync(path)
    fs.mkdirSync(path)
    return () => fs.statSync(path).isDirectory()
  },
  'its directory is moved'(path) {
    const home = join(path, '..')
    fs.renameSync(home, `${home}.moved`)
    fs.mkdirSync(home)
    fs.writeFileSync(path, '')
    return () => fs.existsSync(path) && fs.existsSync(join(`${home}.moved`, '.xero-reconcile-lock.json'))
  },
  'its directory is removed'(path) {
    fs.rmSync(join(path, '..'), { recursive: true })
    return () => !fs.existsSync(path)
  },
  'a file replaces its directory'(path) {
    fs.rmSync(join(path, '..'), { recursive: true })
    fs.writeFileSync(join(path, '..'), 'of another process')
    return () => fs.readFileSync(join(path, '..'), 'utf8') === 'of another process'
  },
}

for (const [what, lose] of Object.entries(losses)) {
  const marks = what.includes('link') ? noLinks : what === 'its directory is moved' ? [] : noDeletion
  test(
    `a lock is lost when ${what}`,
    knownFailure(marks, async (t) => {
      for (const [name, release] of Object.entries(ways)) {
        const cwd = join(directory(t), 'home')
        fs.mkdirSync(cwd)
        const path = resolveLockPath(cwd)
        const lock = await acquireLock(cwd)
        const isUnchanged = lose(path)
        assert.equal(lock.isHeld(), false, name)
        const { code, path: lostPath, recoverable } = await rejection(release(lock, cwd))
        assert.deepEqual([code, lostPath, recoverable], ['E_LOCK_LOST', path, false], name)
        assert.ok(isUnchanged(), name)
        await release(lock, cwd)
        assert.ok(isUnchanged(), `${name}, again`)
      }
    }),
  )
}

test('a release frees a lock in a moved directory', async (t) => {
  const home = directory(t)
  const [cwd, moved] = [join(home, 'a'), join(home, 'b')]
  fs.mkdirSync(cwd)
  const lock = await acquireLock(cwd)
  fs.renameSync(cwd, moved)
  const other = new Peer(t)
  assert.equal((await other.acquire(moved)).code, 'E_LOCK_CONTENTION')
  assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
  const { ok, message, value } = await other.acquire(moved)
  assert.equal(ok, true, message)
  assert.equal(value, undefined, 'nothing was taken over')
})

test(
  'releasing a lost lock keeps the lock of another process',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    const lock = await acquireLock(cwd)
    fs.rmSync(lock.path)
    const other = new Peer(t)
    assert.equal((await other.acquire(cwd)).ok, true)
    assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
    assert.deepEqual(inspectLockSync(cwd).holder?.pid, other.child.pid)
    assert.equal((await other.ask({ do: 'release', cwd })).ok, true)
  }),
)

test('releaseLock keeps a file that this process does not hold', async (t) => {
  const cwd = directory(t)
  await releaseLock(cwd)
  const path = leave(cwd, 'of another process')
  await releaseLock(cwd)
  releaseLockSync(cwd)
  assert.equal(fs.readFileSync(path, 'utf8'), 'of another process')
})

test(
  'releaseLock finds the lock through a symbolic link',
  knownFailure(noLinks, async (t) => {
    const cwd = directory(t)
    fs.mkdirSync(join(cwd, 'real'))
    fs.symlinkSync('real', join(cwd, 'link'))
    const lock = await acquireLock(join(cwd, 'real'))
    assert.equal((await rejection(acquireLock(join(cwd, 'link')))).code, 'E_LOCK_CONTENTION')
    await releaseLock(join(cwd, 'link'))
    assert.equal(lock.isHeld(), false)
  }),
)

test(
  'releaseLock finds a lock beside a pending release',
  knownFailure(noLinks, async (t) => {
    const cwd = directory(t)
    const [real, link] = [join(cwd, 'real'), join(cwd, 'link')]
    fs.mkdirSync(real)
    fs.symlinkSync('real', link)
    const first = await acquireLock(real)
    const pending = first.release()
    const second = acquireLockSync({ cwd: link, timeout: 10_000 })
    await releaseLock(real)
    assert.equal(second.isHeld(), false)
    await pending
    assert.deepEqual(fs.readdirSync(real), [])
  }),
)

test('isHeld has no side effects', async (t) => {
  const cwd = directory(t)
  const lock = await acquireLock(cwd)
  const snapshot = () => {
    const { atimeNs: _, atimeMs: __, atime: ___, ...stat } = fs.statSync(lock.path, { bigint: true })
    const descriptors = isLinux ? fs.readdirSync('/proc/self/fd').length : 0
    return { stat, bytes: fs.readFileSync(lock.path), files: fs.readdirSync(cwd), descriptors }
  }
  const before = snapshot()
  for (let round = 0; round < 100; round += 1) assert.equal(lock.isHeld(), true)
  assert.deepEqual(snapshot(), before)
  assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
  await lock.release()
  for (let round = 0; round < 100; round += 1) assert.equal(lock.isHeld(), false)
  assert.deepEqual(fs.readdirSync(cwd), [])
})

test('a lock stays held after garbage collection of its handle', async (t) => {
  const cwd = directory(t)
  const holder = new Peer(t, { execArgv: ['--expose-gc'] })
  await holder.acquire(cwd)
  assert.equal((await holder.ask({ do: 'forget', cwd })).value, 'function')
  assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
})
