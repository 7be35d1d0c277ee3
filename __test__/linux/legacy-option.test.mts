// The option `legacy`: `false` skips the pause after a take-over.
import assert from 'node:assert/strict'
import { renameSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type AcquireOptions, acquireLock, acquireLockSync, type Lock } from 'reconcile-lock'
import { parseCommand } from '../../lib/cli/options.js'
import { deadPid, directory, leave } from '../support/directory.mjs'
import { sleep } from '../support/time.mjs'

const PAUSE = 5

const STALE = { pid: deadPid(), createdAt: 1 }

type Acquire = (options: AcquireOptions) => Promise<Lock>

const acquireSync: Acquire = async (options) => acquireLockSync(options)

const commandLine: Acquire = async ({ cwd, legacy }) => {
  const flags = legacy === false ? ['--no-legacy'] : []
  const file = join(String(cwd), '.xero-reconcile-lock.json')
  const command = parseCommand(['run', ...flags, '--file', file, '--', 'true'])
  assert.ok(command.name === 'run')
  return acquireLock({ file: command.file, legacy: command.legacy, timeout: command.timeout })
}

/** How long a take-over takes, in milliseconds. */
async function immediate(acquire: Acquire, options: AcquireOptions & { cwd: string }): Promise<number> {
  leave(options.cwd, STALE)
  return measured(acquire, options, performance.now())
}

/** The same, from the moment at which the awaited lock becomes stale. */
async function afterWait(acquire: Acquire, options: AcquireOptions & { cwd: string }): Promise<number> {
  const path = leave(options.cwd, STALE)
  const stale = `${path}.stale`
  renameSync(path, stale)
  leave(options.cwd, { pid: process.pid, createdAt: 1 })
  const started: number[] = []
  const onWait = () => {
    if (started.push(performance.now()) === 1) renameSync(stale, path)
  }
  return measured(acquire, { ...options, timeout: 20_000, onWait }, started)
}

async function measured(acquire: Acquire, options: AcquireOptions, started: number | number[]) {
  const lock = await acquire(options)
  const end = performance.now()
  assert.equal(lock.takenOver?.holder?.pid, STALE.pid)
  await lock.release()
  return end - (typeof started === 'number' ? started : (started[0] ?? Number.NaN))
}

for (const [name, take, acquire] of [
  ['acquireLock', immediate, acquireLock],
  ['acquireLockSync', immediate, acquireSync],
  ['waiting acquireLock', afterWait, acquireLock],
  ['waiting acquireLockSync', afterWait, acquireSync],
  ['reconcile-lock run', immediate, commandLine],
] as const) {
  test(`${name} pauses after a take-over unless legacy is false`, async (t) => {
    const cwd = directory(t)
    for (const options of [{ cwd }, { cwd, legacy: true }]) {
      for (let round = 0; round < 5; round += 1) {
        const took = await take(acquire, options)
        assert.ok(took >= PAUSE, `${took} ms`)
      }
    }
    let least = Number.POSITIVE_INFINITY
    // A busy machine does not delay each attempt.
    for (let round = 0; round < 100 && least >= PAUSE; round += 1)
      least = Math.min(least, await take(acquire, { cwd, legacy: false }))
    assert.ok(least < PAUSE, `${least} ms with legacy: false`)
  })
}

for (const waits of [false, true]) {
  const which = waits ? 'a waiting' : 'an immediate'
  test(`acquireLockSync pauses despite ${which} take-over without legacy`, async (t) => {
    const cwd = directory(t)
    const path = leave(cwd, STALE)
    const stale = `${path}.stale`
    if (waits) {
      renameSync(path, stale)
      leave(cwd, { pid: process.pid, createdAt: 1 })
    }
    const pending = acquireLock({ cwd, legacy: false, timeout: 20_000 })
    if (waits) {
      await sleep(50, 'the call waits')
      renameSync(stale, path)
      // The other call takes over meanwhile, and cannot return.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200)
    }
    const started = performance.now()
    const lock = acquireLockSync({ cwd, timeout: 20_000 })
    const took = performance.now() - started
    assert.equal(lock.takenOver?.holder?.pid, STALE.pid)
    lock.releaseSync()
    await (await pending).release()
    assert.ok(took >= PAUSE, `${took} ms`)
  })
}
