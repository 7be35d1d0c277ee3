// Several locks at once: `withLock` with an array of targets.
import assert from 'node:assert/strict'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { acquireLock, type Lock, withLock } from 'reconcile-lock'
import { deadPid, directory, isWindows, leave, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { until } from '../support/time.mjs'
import { noDeletion } from '../support/wine.mjs'
import { within } from '../support/within.mjs'

const files = (...names: string[]) => names.map((file) => ({ file }))
const never = () => assert.fail('fn was called')

test('withLock holds all locks and passes them as given', async (t) => {
  const cwd = directory(t)
  const result = await withLock(
    ([b, a]) => {
      assert.deepEqual(readdirSync(cwd).sort(), ['a', 'b'])
      assert.ok(a.isHeld() && b.isHeld())
      return [b, a].map((lock) => basename(lock.path))
    },
    [{ file: 'b' }, { file: 'a' }],
    { cwd },
  )
  assert.deepEqual(result, ['b', 'a'])
  assert.deepEqual(readdirSync(cwd), [])
})

test('withLock acquires in one order and rolls back', async (t) => {
  const cwd = directory(t)
  for (const names of [
    ['b', 'c', 'a'],
    ['c', 'b', 'a'],
  ]) {
    const b = await acquireLock({ cwd, file: 'b' })
    const acquired: string[] = []
    // The wait for b begins while a is held, and c is not.
    const onWait = () => acquired.push(...readdirSync(cwd).sort())
    const error = await rejection(withLock(never, files(...names), { cwd, timeout: 500, onWait }))
    assert.deepEqual([error.code, error.path], ['E_LOCK_CONTENTION', b.path])
    assert.deepEqual(acquired, ['a', 'b'])
    await until(() => readdirSync(cwd).join() === 'b', 'a is released')
    await b.release()
  }
})

test('withLock rolls back a take-over if another lock is refused', async (t) => {
  const cwd = directory(t)
  leave(cwd, { pid: deadPid(), createdAt: 1 }, 60, 'a')
  const b = await acquireLock({ cwd, file: 'b' })
  assert.equal((await rejection(withLock(never, files('a', 'b'), { cwd }))).path, b.path)
  // The refused call could not report it.
  const a = await acquireLock({ cwd, file: 'a' })
  assert.equal(a.takenOver?.holder?.createdAt, 1)
})

test('a change of the directory does not change the locks', async (t) => {
  const before = process.cwd()
  t.after(() => process.chdir(before))
  const cwd = realpathSync(directory(t))
  process.chdir(cwd)
  const a = await acquireLock({ file: 'a' })
  const onWait = () => {
    process.chdir(before)
    a.releaseSync()
  }
  const paths = await withLock((locks) => locks.map(({ path }) => path), files('a', 'b'), {
    timeout: 30_000,
    onWait,
  })
  assert.deepEqual(paths, [join(cwd, 'a'), join(cwd, 'b')])
})

test('the timeout of withLock is for all locks together', async (t) => {
  const cwd = directory(t)
  const b = await acquireLock({ cwd, file: 'b' })
  await within(2300, async () => {
    const a = await acquireLock({ cwd, file: 'a' })
    const started = performance.now()
    const onWait = ({ path, waited }: { path: string; waited: number }) => {
      // Its own interval is a second, so this is the first call or the one after it.
      if (path === a.path && waited > 900) a.releaseSync()
    }
    const error = await rejection(withLock(never, files('a', 'b'), { cwd, timeout: 1500, onWait }))
    const waited = performance.now() - started
    assert.equal(error.path, b.path)
    assert.ok(waited >= 1500, `${waited} ms`)
    return waited
  })
  await b.release()
})

test('several locks share one timeout', async (t) => {
  const cwd = directory(t)
  const a = await acquireLock({ cwd, file: 'a' })
  writeFileSync(join(cwd, 'b'), '')
  let ended = 0
  const onWait = () => {
    a.releaseSync()
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400)
    ended = performance.now()
  }
  const error = await rejection(withLock(never, files('a', 'b'), { cwd, timeout: 300, onWait }))
  assert.deepEqual([error.code, error.path], ['E_LOCK_CONTENTION', join(realpathSync(cwd), 'b')])
  // A call without a timeout waits 2 s for the creator of b.
  assert.ok(performance.now() - ended < 1000)
})

test('withLock ignores a timeout on Object.prototype', async (t) => {
  const cwd = directory(t)
  const a = await acquireLock({ cwd, file: 'a' })
  const prototype = Object.prototype as { timeout?: number }
  const started = performance.now()
  prototype.timeout = 20_000
  try {
    const error = await rejection(withLock(never, files('a', 'b'), { cwd }))
    assert.deepEqual([error.code, error.path], ['E_LOCK_CONTENTION', a.path])
  } finally {
    delete prototype.timeout
  }
  assert.ok(performance.now() - started < 10_000)
  await a.release()
})

test('an abort releases the locks that withLock has acquired', async (t) => {
  const cwd = directory(t)
  const b = await acquireLock({ cwd, file: 'b' })
  const abort = new AbortController()
  const onWait = () => abort.abort(new Error('enough'))
  const { signal } = abort
  const waiting = withLock(never, files('a', 'b'), { cwd, timeout: 30_000, signal, onWait })
  assert.equal((await rejection(waiting)).message, 'enough')
  // The call waits for the release only briefly.
  await until(() => readdirSync(cwd).join() === 'b', 'a is released')
  await b.release()
})

test(
  'withLock releases every lock although one is lost',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    const lose = ([, b]: readonly Lock[]) => rmSync(b?.path ?? '')
    const error = await rejection(withLock(lose, files('a', 'b', 'c'), { cwd }))
    assert.deepEqual([error.code, error.path], ['E_LOCK_LOST', join(cwd, 'b')])
    assert.deepEqual(readdirSync(cwd), [])
  }),
)

test('options of a target take precedence over those of all', async (t) => {
  const cwd = directory(t)
  const a = await acquireLock({ cwd, file: 'a' })
  const refused = async (message?: string) =>
    (await rejection(withLock(never, [{ file: 'a', message }, { file: 'b' }], { cwd, message: 'of all' })))
      .message
  assert.equal(await refused('of one'), 'of one')
  assert.equal(await refused(), 'of all')
  await a.release()
})

test('withLock names a directory by a string or URL', async (t) => {
  const [one, two] = [directory(t), directory(t)]
  const name = '.xero-reconcile-lock.json'
  await withLock(
    () => assert.deepEqual([...readdirSync(one), ...readdirSync(two)], [name, name]),
    [one, new URL(`file://${isWindows ? '/' : ''}${two.replaceAll('\\', '/')}`)],
  )
})

const linked = isWindows && 'Windows needs a right for symbolic links'

test('links do not change the order of withLock', { skip: linked }, async (t) => {
  const cwd = directory(t)
  for (const name of ['m', 'z']) mkdirSync(join(cwd, name))
  symlinkSync('z', join(cwd, 'a'))
  const m = await acquireLock({ cwd, file: 'm/l' })
  // By its text, a/l would be the first one.
  assert.equal((await rejection(withLock(never, files('a/l', 'm/l'), { cwd }))).path, m.path)
  const acquired: string[][] = []
  const onWait = () => acquired.push(readdirSync(join(cwd, 'z')))
  await rejection(withLock(never, files('a/l', 'm/l'), { cwd, timeout: 500, onWait }))
  assert.deepEqual(acquired, [[]])
  await m.release()
  const twice = await rejection(withLock(never, files('a/l', 'z/l'), { cwd }))
  assert.equal(twice.code, 'ERR_INVALID_ARG_VALUE')
})

for (const [what, targets, options, code] of [
  ['an empty array', [], {}, 'ERR_INVALID_ARG_VALUE'],
  ['the same target twice', files('a', './a'), {}, 'ERR_INVALID_ARG_VALUE'],
  ['an undefined target', [{ file: 'a' }, undefined], {}, 'ERR_INVALID_ARG_TYPE'],
  ['a hole', Object.assign(new Array(2), { 0: { file: 'a' } }), {}, 'ERR_INVALID_ARG_TYPE'],
  ['a number', [{ file: 'a' }, 5], {}, 'ERR_INVALID_ARG_TYPE'],
  ['a timeout of one target', [{ file: 'a', timeout: 5 }], {}, 'ERR_INVALID_ARG_VALUE'],
  ['a wrong option of the second', [{ file: 'a' }, { file: 'b', slots: 0 }], {}, 'ERR_OUT_OF_RANGE'],
  ['an unknown option of all', files('a', 'b'), { retries: 5 }, 'ERR_INVALID_ARG_VALUE'],
  ['options that are no object', files('a', 'b'), 5, 'ERR_INVALID_ARG_TYPE'],
] as [string, never[], object, string][])
  test(`withLock refuses ${what}`, async (t) => {
    const cwd = directory(t)
    const all = typeof options === 'object' ? { cwd, ...options } : options
    assert.equal((await rejection(withLock(never, targets, all))).code, code)
    assert.deepEqual(readdirSync(cwd), [])
  })

test('withLock refuses a fourth argument', async (t) => {
  const cwd = directory(t)
  const error = await rejection(
    (withLock as (...all: unknown[]) => Promise<never>)(never, files('a'), { cwd }, 1),
  )
  assert.equal(error.code, 'ERR_INVALID_ARG_VALUE')
})

test('processes that name two locks in either order end', async (t) => {
  const cwd = directory(t)
  const program = fileURLToPath(new URL('several-process.mjs', import.meta.url))
  const ends = [
    ['a', 'b'],
    ['b', 'a'],
  ].map((names) => once(fork(program, [cwd, ...names]), 'exit'))
  assert.deepEqual(
    (await Promise.all(ends)).map(([code]) => code),
    [0, 0],
  )
  assert.deepEqual(readdirSync(cwd), [])
})

test(
  'withLock warns of an error of its rollback alone',
  knownFailure(noDeletion, async (t) => {
    const cwd = directory(t)
    const held = await acquireLock({ cwd, file: 'b' })
    const codes: unknown[] = []
    const onWarning = ({ code }: NodeJS.ErrnoException) => codes.push(code)
    process.on('warning', onWarning)
    t.after(() => process.off('warning', onWarning))
    const onWait = () => rmSync(join(cwd, 'a'), { force: true })
    const error = await rejection(withLock(never, files('a', 'b'), { cwd, timeout: 100, onWait }))
    assert.equal(error.code, 'E_LOCK_CONTENTION')
    await until(() => codes.length > 0, 'a warning is emitted')
    await turn()
    assert.deepEqual(codes, ['E_LOCK_LOST'])
    await held.release()
  }),
)
