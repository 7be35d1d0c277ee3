// How a lock is let go of, and what happens if somebody else took it away.
import assert from 'node:assert/strict'
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

/** Every way to let go; each gives a promise. */
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

for (const [name, letGo] of Object.entries(ways)) {
  test(`${name} releases, and then every release is a no-op`, async (t) => {
    const cwd = directory(t)
    const lock = await acquireLock(cwd)
    assert.equal(lock.isHeld(), true)
    await letGo(lock, cwd)
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
    await letGo(next, cwd)
    assert.deepEqual(fs.readdirSync(cwd), [])
  })
}

test('releases at the same time are one release', async (t) => {
  const cwd = directory(t)
  for (let round = 0; round < 50; round += 1) {
    const lock = await acquireLock(cwd)
    await Promise.all([lock.release(), releaseLock(cwd), lock.release(), lock[Symbol.asyncDispose]()])
    assert.deepEqual(fs.readdirSync(cwd), [])
  }
})

test('a second release is the first one, and releaseLock waits for it', async (t) => {
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

test('await using releases when the block fails, and its error is the one that is thrown', async (t) => {
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

/** What somebody can do to a lock file; the result tells whether it is as it was left. */
const losses: Record<string, (path: string) => () => boolean> = {
  'was removed'(path) {
    fs.rmSync(path)
    return () => !fs.existsSync(path)
  },
  'was replaced by a file'(path) {
    fs.rmSync(path)
    fs.writeFileSync(path, 'of somebody else')
    return () => fs.readFileSync(path, 'utf8') === 'of somebody else'
  },
  'was replaced by a copy'(path) {
    fs.copyFileSync(path, `${path}.copy`)
    fs.renameSync(`${path}.copy`, path)
    return () => fs.readFileSync(path, 'utf8').startsWith(`{"pid":${process.pid},`)
  },
  'was moved, with a link to it in its place'(path) {
    fs.renameSync(path, `${path}.moved`)
    fs.symlinkSync(`${path}.moved`, path)
    return () => fs.lstatSync(path).isSymbolicLink() && fs.existsSync(`${path}.moved`)
  },
  'was replaced by a directory'(path) {
    fs.rmSync(path)
    fs.mkdirSync(path)
    return () => fs.statSync(path).isDirectory()
  },
  'was moved with its directory'(path) {
    const home = join(path, '..')
    fs.renameSync(home, `${home}.moved`)
    fs.mkdirSync(home)
    fs.writeFileSync(path, '')
    return () => fs.existsSync(path) && fs.existsSync(join(`${home}.moved`, '.xero-reconcile-lock.json'))
  },
  'was removed with its directory'(path) {
    fs.rmSync(join(path, '..'), { recursive: true })
    return () => !fs.existsSync(path)
  },
  'was removed with its directory, which is a file now'(path) {
    fs.rmSync(join(path, '..'), { recursive: true })
    fs.writeFileSync(join(path, '..'), 'of somebody else')
    return () => fs.readFileSync(join(path, '..'), 'utf8') === 'of somebody else'
  },
}

for (const [what, lose] of Object.entries(losses)) {
  const marks = what.includes('link') ? noLinks : what === 'was moved with its directory' ? [] : noDeletion
  test(
    `a lock whose file ${what} is lost, and the other file stays`,
    knownFailure(marks, async (t) => {
      for (const [name, letGo] of Object.entries(ways)) {
        const cwd = join(directory(t), 'home')
        fs.mkdirSync(cwd)
        const path = resolveLockPath(cwd)
        const lock = await acquireLock(cwd)
        const isAsItWasLeft = lose(path)
        assert.equal(lock.isHeld(), false, name)
        const { code, path: told, recoverable } = await rejection(letGo(lock, cwd))
        assert.deepEqual([code, told, recoverable], ['E_LOCK_LOST', path, false], name)
        assert.ok(isAsItWasLeft(), name)
        await letGo(lock, cwd)
        assert.ok(isAsItWasLeft(), `${name}, again`)
      }
    }),
  )
}

test(
  'a lock that another process has by now is lost, and stays held by that',
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

test('releaseLock of what this process does not hold touches nothing', async (t) => {
  const cwd = directory(t)
  await releaseLock(cwd)
  const path = leave(cwd, 'of somebody else')
  await releaseLock(cwd)
  releaseLockSync(cwd)
  assert.equal(fs.readFileSync(path, 'utf8'), 'of somebody else')
})

test(
  'a lock is found by another name of its directory',
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

test('isHeld has no side effects', async (t) => {
  const cwd = directory(t)
  const lock = await acquireLock(cwd)
  const seen = () => {
    const { atimeNs: _, atimeMs: __, atime: ___, ...stat } = fs.statSync(lock.path, { bigint: true })
    const descriptors = isLinux ? fs.readdirSync('/proc/self/fd').length : 0
    return { stat, bytes: fs.readFileSync(lock.path), files: fs.readdirSync(cwd), descriptors }
  }
  const before = seen()
  for (let look = 0; look < 100; look += 1) assert.equal(lock.isHeld(), true)
  assert.deepEqual(seen(), before)
  assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
  await lock.release()
  for (let look = 0; look < 100; look += 1) assert.equal(lock.isHeld(), false)
  assert.deepEqual(fs.readdirSync(cwd), [])
})

test('a handle that is lost to the garbage collector does not release', async (t) => {
  const cwd = directory(t)
  const holder = new Peer(t, { execArgv: ['--expose-gc'] })
  await holder.acquire(cwd)
  assert.equal((await holder.ask({ do: 'forget', cwd })).value, 'function')
  assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
})
