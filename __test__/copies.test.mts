import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdirSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { acquireLock, resolveLockPath } from 'reconcile-lock'
import { directory, rejection } from './support/directory.mjs'
import { ended } from './support/program.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const require = createRequire(import.meta.url)

type Package = typeof import('reconcile-lock')

/** Another installation of the package, as two versions of a dependency can have it. */
function copy(t: TestContext): string {
  const home = join(directory(t), 'copy')
  mkdirSync(home)
  const binaries = readdirSync(root).filter((name) => name.endsWith('.node'))
  for (const name of ['index.js', 'binding.js', 'package.json', 'lib', ...binaries])
    cpSync(join(root, name), join(home, basename(name)), { recursive: true })
  return home
}

for (const [what, another] of [
  ['two copies of the package', (t: TestContext) => require(copy(t)) as Package],
  [
    'the same copy loaded twice',
    () => {
      const loaded = Object.keys(require.cache).filter((path) => path.startsWith(root))
      const kept = loaded.map((path) => [path, require.cache[path]] as const)
      for (const path of loaded) delete require.cache[path]
      const twice = require(join(root, 'index.js')) as Package
      for (const [path, module] of kept) require.cache[path] = module
      return twice
    },
  ],
] as const) {
  test(`${what} in one thread exclude each other, and neither releases the other's lock`, async (t) => {
    const cwd = directory(t)
    const other = another(t)
    assert.notEqual(other.acquireLock, acquireLock)
    for (const [one, two] of [
      [other, require(join(root, 'index.js')) as Package],
      [require(join(root, 'index.js')) as Package, other],
    ] as const) {
      const lock = await one.acquireLock(cwd)
      const refused = await rejection(two.acquireLock(cwd))
      assert.equal(refused.code, 'E_LOCK_CONTENTION')
      assert.deepEqual(refused.holder, lock.holder)
      await two.releaseLock(cwd)
      two.releaseLockSync(cwd)
      assert.equal(lock.isHeld(), true)
      const waiting = two.acquireLock({ cwd, timeout: 10_000 })
      await lock.release()
      await (await waiting).release()
      assert.equal(existsSync(resolveLockPath(cwd)), false)
    }
  })
}

const WORKERS = `
  const { Worker, isMainThread, workerData } = require('node:worker_threads')
  const { once } = require('node:events')
  const { readdirSync } = require('node:fs')
  const count = (what) => readdirSync('/proc/self/' + what).length
  const homes = process.argv.slice(2)
  const program = \`
    const { workerData: { home, cwd, round }, parentPort } = require('node:worker_threads')
    const lock = require(home)
    if (round % 4 === 0) lock.acquireLock({ cwd, timeout: Infinity })
    else if (round % 4 === 1) lock.acquireLockSync({ cwd, timeout: 10000 }).releaseSync()
    else if (round % 4 === 2) lock.acquireLockSync({ cwd, timeout: 10000 })
    else lock.acquireLock({ cwd, timeout: 10000 }).then(() => process.exit())
    parentPort.postMessage('begun')\`
  async function round(number) {
    const home = homes[number % homes.length]
    const worker = new Worker(program, { eval: true, workerData: { home, cwd, round: number } })
    const exit = once(worker, 'exit')
    if (number % 3 === 0) await once(worker, 'online')
    else await once(worker, 'message')
    if (number % 2 === 0) await worker.terminate()
    await exit
    const mine = await lock.acquireLock({ cwd, timeout: 10000 })
    if (mine.takenOver) throw new Error('a worker left its lock behind: ' + mine.takenOver.reason)
    await mine.release()
  }
  async function main() {
    for (let number = 0; number < 20; number += 1) await round(number)
    await new Promise((resolve) => setTimeout(resolve, 1500))
    gc()
    const before = [process.memoryUsage.rss(), count('fd'), count('task')]
    for (let number = 0; number < 100; number += 1) await round(number)
    await new Promise((resolve) => setTimeout(resolve, 1500))
    gc()
    console.log(JSON.stringify({ before, after: [process.memoryUsage.rss(), count('fd'), count('task')] }))
  }
  main()`

test('100 workers that come and go with their locks leave nothing behind, with two copies too', (t) => {
  const cwd = directory(t)
  const homes = [root, copy(t)].map((home) => JSON.stringify(home))
  const body = WORKERS.replace('process.argv.slice(2)', `[${homes}]`)
  const { code, signal, stdout, stderr } = ended(t, cwd, body, ['--expose-gc'])
  assert.deepEqual([code, signal, stderr], [0, null, ''])
  const { before, after } = JSON.parse(stdout)
  const grown = (after[0] - before[0]) / 2 ** 20
  t.diagnostic(
    `100 workers: resident grew by ${grown.toFixed(1)} MB; descriptors ${before[1]} and ${after[1]}`,
  )
  assert.ok(grown < 40, `memory grew by ${grown} MB`)
  assert.deepEqual(after.slice(1), before.slice(1), 'descriptors and threads')
  assert.deepEqual(readdirSync(cwd), [])
})
