// Several copies of the JavaScript share one binary: hot reload, Jest's module registry, two installations.
import assert from 'node:assert/strict'
import { subscribe } from 'node:diagnostics_channel'
import { cpSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { directory, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { copyPackage, type Package, root } from '../support/packages.mjs'
import { ended } from '../support/program.mjs'
import { fileOf, here } from '../support/release.mjs'
import { sleep } from '../support/time.mjs'
import { noDeletion, noLinks } from '../support/wine.mjs'

const require = createRequire(import.meta.url)

/** Evaluates the JavaScript again; the binary stays loaded. */
function evaluatedAgain(): Package {
  for (const path of Object.keys(require.cache)) if (!path.endsWith('.node')) delete require.cache[path]
  return require(root)
}

/** Two copies of the package without a binary, and one platform package that `layout` links to both. */
function installed(
  t: TestContext,
  layout: (home: string, platform: string, copies: [string, string]) => void,
) {
  const home = directory(t)
  const copy = (of: string) => join(home, 'node_modules', of, 'node_modules/reconcile-lock')
  const copies: [string, string] = [copy('one'), copy('two')]
  copyPackage(copies[0])
  const binary = fileOf(here)
  const platform = join(home, 'platform')
  mkdirSync(platform, { recursive: true })
  cpSync(join(copies[0], binary), join(platform, binary))
  rmSync(join(copies[0], binary))
  cpSync(copies[0], copies[1], { recursive: true })
  layout(home, platform, copies)
  return copies.map((copy) => require(copy) as Package) as [Package, Package]
}

const link = (target: string, path: string) => {
  mkdirSync(dirname(path), { recursive: true })
  symlinkSync(target, path, 'junction')
}

const layouts: Record<string, (t: TestContext) => [Package, Package]> = {
  'evaluated twice': () => [evaluatedAgain(), evaluatedAgain()],
  // pnpm creates one instance per version of the optional peer dependency `pg`, but only one of the platform package.
  'two instances of pnpm': (t) =>
    installed(t, (_, platform, copies) => {
      for (const copy of copies) link(platform, join(dirname(copy), '@reconcile-lock', here))
    }),
  'nested duplicate with a hoisted platform package': (t) =>
    installed(t, (home, platform) => link(platform, join(home, 'node_modules/@reconcile-lock', here))),
}

const events: string[] = []
for (const name of ['acquired', 'contended', 'released', 'lost'])
  subscribe(`reconcile-lock:${name}`, () => events.push(name))
const since = () => events.splice(0).join()

for (const [layout, load] of Object.entries(layouts)) {
  test(
    `copies share locks: ${layout}`,
    knownFailure(layout === 'evaluated twice' ? noDeletion : noLinks, async (t) => {
      const before = process.listeners('exit')
      const copies = load(t)
      assert.notEqual(copies[0].acquireLock, copies[1].acquireLock)
      for (const [one, other] of [copies, copies.toReversed(), [copies[0], copies[0]]] as [
        Package,
        Package,
      ][]) {
        const cwd = directory(t)
        since()
        const held = await one.acquireLock(cwd)
        const refused = await rejection(other.acquireLock(cwd))
        for (const { LockError } of copies) assert.ok(refused instanceof LockError)
        assert.equal(since(), 'acquired,contended')
        const waiting = other.acquireLock({ cwd, timeout: 20_000 })
        await sleep(20, 'the wait has begun by then')
        await one.releaseLock(cwd)
        const second = await waiting
        assert.deepEqual([held.isHeld(), second.isHeld()], [false, true])
        since()
        await one.releaseLock(cwd)
        assert.ok(!second.isHeld(), 'one copy releases the lock of another by its path')
        assert.equal(since(), 'released')
        const third = other.acquireLockSync(cwd)
        one.releaseLockSync(third)
        assert.ok(!third.isHeld(), 'and by the lock itself')
        const lost = one.acquireLockSync(cwd)
        rmSync(lost.path)
        since()
        const error = await rejection(other.releaseLock(cwd))
        assert.ok(error instanceof one.LockError && error.code === 'E_LOCK_LOST')
        assert.equal(since(), 'lost')
        assert.deepEqual(readdirSync(cwd), [])
      }
      const left = process.listeners('exit').filter((listener) => !before.includes(listener))
      assert.deepEqual(left, [])
    }),
  )
}

test('a process ends after a wait that outlasts a reload', (t) => {
  const body = `
    const held = lock.acquireLockSync(cwd)
    const onWait = () => {
      for (const path of Object.keys(require.cache)) if (!path.endsWith('.node')) delete require.cache[path]
      require(${JSON.stringify(root)})
      held.releaseSync()
    }
    lock.acquireLock({ cwd, timeout: 20_000, onWait }).then((mine) => mine.releaseSync())`
  const { code, signal, stderr } = ended(t, directory(t), body)
  assert.deepEqual([code, signal, stderr], [0, null, ''])
})

test('instanceof LockError accepts only lock errors and its subclasses', () => {
  const { LockError } = evaluatedAgain()
  class Special extends LockError {}
  const about = { code: 'E_LOCK_CONTENTION', path: 'p', recoverable: true } as const
  assert.ok(new Special('m', about) instanceof LockError)
  assert.ok(new Special('m', about) instanceof Special)
  assert.ok(!(new LockError('m', about) instanceof Special))
  for (const other of [new Error('m'), null, undefined, 'E_LOCK_CONTENTION', {}])
    assert.ok(!((other as unknown) instanceof LockError))
})
