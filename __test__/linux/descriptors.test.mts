// Other code of the program closes the descriptor of a lock file.
import assert from 'node:assert/strict'
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readlinkSync } from 'node:fs'
import { test } from 'node:test'
import { acquireLock, acquireLockSync, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { directory, rejection } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { DEADLINE, sleep } from '../support/time.mjs'

const onlyItsOwn: KnownFailure = {
  runtime: 'deno',
  why: 'Deno does not close a descriptor that it has not opened',
}

/** The number of the descriptor with which this process has a file open. */
function descriptorOf(path: string): number {
  const isIt = (name: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`) === path
    } catch {
      return false
    }
  }
  return Number(readdirSync('/proc/self/fd').find(isIt))
}

for (const [what, release] of [
  ['release', (lock: ReturnType<typeof acquireLockSync>) => rejection(lock.release())],
  [
    'releaseSync',
    async (lock: ReturnType<typeof acquireLockSync>) => {
      try {
        lock.releaseSync()
      } catch (error) {
        return error as NodeJS.ErrnoException
      }
    },
  ],
] as const) {
  for (const isReused of [false, true]) {
    const does = isReused
      ? 'does not close a file that reused its descriptor'
      : 'reports that other code closed its descriptor'
    test(
      `${what} ${does}`,
      knownFailure(onlyItsOwn, async (t) => {
        const cwd = directory(t)
        const path = resolveLockPath({ cwd })
        const lock = acquireLockSync(cwd)
        const descriptor = descriptorOf(path)
        closeSync(descriptor)
        const other = isReused ? openSync(`${cwd}/other`, 'w') : undefined
        if (isReused) assert.equal(other, descriptor)
        assert.equal(lock.isHeld(), false)
        const error = await release(lock)
        assert.equal(error?.code, 'E_LOCK_LOST')
        assert.match(error.message, /another part of this program closed its file/)
        if (other !== undefined) {
          assert.ok(fstatSync(other).isFile())
          closeSync(other)
        }
        assert.ok(existsSync(path), 'another process may hold it')
        assert.equal(inspectLockSync({ cwd }).state, 'stale')
        const next = acquireLockSync(cwd)
        assert.match(next.takenOver?.reason ?? '', /did not release the lock/)
        next.releaseSync()
      }),
    )
  }
}

for (const [when, waitsBefore] of [
  ['before', true],
  ['after', false],
] as const) {
  test(
    `a call that waits ${when} a lock's descriptor is closed acquires it`,
    knownFailure(onlyItsOwn, async (t) => {
      const cwd = directory(t)
      const lock = acquireLockSync(cwd)
      const close = () => closeSync(descriptorOf(lock.path))
      if (!waitsBefore) close()
      const waited = acquireLock({ cwd, timeout: DEADLINE })
      await sleep(50, 'the call waits')
      if (waitsBefore) close()
      assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
      const next = await waited
      assert.match(next.takenOver?.reason ?? '', /did not release the lock/)
      await next.release()
    }),
  )
}

test(
  'a reader with a stolen descriptor closes no other file',
  knownFailure(onlyItsOwn, async (t) => {
    const cwd = directory(t)
    const lock = acquireLockSync({ cwd, file: 'l', shared: true })
    const descriptor = descriptorOf(`${lock.path}.readers`)
    closeSync(descriptor)
    const other = openSync(`${cwd}/other`, 'w')
    assert.equal(other, descriptor)
    assert.equal(lock.isHeld(), false)
    assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
    assert.ok(fstatSync(other).isFile())
    closeSync(other)
  }),
)
