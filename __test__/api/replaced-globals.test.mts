// Programs and tests replace globals after they have loaded the package.
import assert from 'node:assert/strict'
import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLock, acquireLockSync, withLock } from 'reconcile-lock'
import { directory, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { noDeletion } from '../support/wine.mjs'

/** Replaces properties of an object until the test ends. */
function replace(t: TestContext, object: object, replaced: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(replaced)) {
    const original = Object.getOwnPropertyDescriptor(object, name) as PropertyDescriptor
    Object.defineProperty(object, name, { value, configurable: true, writable: true })
    t.after(() => Object.defineProperty(object, name, original))
  }
}

/** Its `allSettled` and `any` have other results, as those of bluebird have. */
class OtherPromise extends Promise<unknown> {
  static override async allSettled() {
    return [] as never
  }
  static override any() {
    return OtherPromise.reject([]) as never
  }
}

test(
  'withLock reports a loss with another global Promise',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    replace(t, globalThis, { Promise: OtherPromise })
    const lost = await rejection(withLock(({ path }) => rmSync(path), cwd))
    assert.equal(lost.code, 'E_LOCK_LOST')
  }),
)

test('slots are refused with another global Promise', async (t) => {
  const cwd = directory(t)
  using first = acquireLockSync({ cwd, slots: 2 })
  using second = acquireLockSync({ cwd, slots: 2 })
  replace(t, globalThis, { Promise: OtherPromise })
  const refused = await rejection(acquireLock({ cwd, slots: 2, timeout: 300 }))
  assert.equal(refused.code, 'E_LOCK_CONTENTION')
  assert.ok(first.isHeld() && second.isHeld())
})

test('calls work with a copy of the global process', async (t) => {
  const cwd = directory(t)
  replace(t, globalThis, { process: { ...process, exit() {} } })
  await (await acquireLock(cwd)).release()
  acquireLockSync(cwd).releaseSync()
  assert.deepEqual(readdirSync(cwd), [])
})

test('errors are the same without the global process', async (t) => {
  const cwd = directory(t)
  using lock = acquireLockSync(cwd)
  replace(t, globalThis, { process: undefined })
  const refused = await rejection(acquireLock({ cwd, timeout: 20 }))
  assert.deepEqual([refused.code, lock.isHeld()], ['E_LOCK_CONTENTION', true])
  assert.equal((await rejection(acquireLock(join(cwd, 'none')))).code, 'ENOENT')
})

test(
  'a failed release is a warning without the global process',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    const warnings: unknown[] = []
    const emitWarning = (warning: { code: string }) => warnings.push(warning.code)
    replace(t, process, { emitWarning })
    replace(t, globalThis, { process: undefined })
    const failure = new Error('of fn')
    const work = ({ path }: { path: string }) => {
      rmSync(path)
      throw failure
    }
    assert.equal(await rejection(withLock(work, cwd)), failure)
    assert.deepEqual(warnings, ['E_LOCK_LOST'])
  }),
)

test('a refusal is the same if Error is frozen', async (t) => {
  const cwd = directory(t)
  using lock = acquireLockSync(cwd)
  const original = Object.getOwnPropertyDescriptor(Error, 'stackTraceLimit') as PropertyDescriptor
  t.after(() => Object.defineProperty(Error, 'stackTraceLimit', original))
  Object.defineProperty(Error, 'stackTraceLimit', { ...original, writable: false })
  for (const timeout of [0, 20]) {
    const refused = await rejection(acquireLock({ cwd, timeout }))
    assert.deepEqual([refused.code, lock.isHeld()], ['E_LOCK_CONTENTION', true])
  }
})
