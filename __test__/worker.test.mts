import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { acquireLock, type LockError, releaseLock } from 'reconcile-lock'
import { directory, rejection } from './support/directory.mjs'

const program = `
  const { parentPort, workerData: cwd } = require('node:worker_threads')
  const { acquireLock, releaseLock } = require(process.env.PACKAGE)
  let lock
  parentPort.on('message', async (what) => {
    try {
      if (what === 'acquire') lock = await acquireLock(cwd)
      if (what === 'release') await releaseLock(cwd)
      if (what === 'end') return parentPort.close()
      if (what === 'exit') return process.exit(0)
      parentPort.postMessage('done')
    } catch (error) {
      parentPort.postMessage(error.code)
    }
  })
`

function start(cwd: string): { worker: Worker; ask: (what: string) => Promise<unknown> } {
  const path = new URL('../../index.js', import.meta.url).pathname
  const worker = new Worker(program, { eval: true, workerData: cwd, env: { ...process.env, PACKAGE: path } })
  const ask = async (what: string) => {
    const answer = once(worker, 'message')
    worker.postMessage(what)
    return (await answer)[0]
  }
  return { worker, ask }
}

test("another thread's lock is contention and names the thread; only that thread releases it", async (t) => {
  const cwd = directory(t)
  const { worker, ask } = start(cwd)
  assert.equal(await ask('acquire'), 'done')
  const error = (await rejection(acquireLock(cwd))) as unknown as LockError
  assert.equal(error.code, 'E_LOCK_CONTENTION')
  assert.deepEqual([error.holder?.pid, error.holder?.thread], [process.pid, worker.threadId])
  await releaseLock(cwd)
  assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION', 'releaseLock here did nothing')
  assert.equal(await ask('release'), 'done')
  const mine = await acquireLock(cwd)
  assert.equal(await ask('acquire'), 'E_LOCK_CONTENTION')
  await worker.terminate()
  assert.equal(mine.isHeld(), true, 'a worker that ends lets go of nobody else’s lock')
  await mine.release()
})

for (const how of ['terminate', 'end', 'exit'] as const) {
  test(`a worker that ends by ${how} lets go of its lock`, async (t) => {
    const cwd = directory(t)
    const { worker, ask } = start(cwd)
    assert.equal(await ask('acquire'), 'done')
    const exit = once(worker, 'exit')
    if (how === 'terminate') await worker.terminate()
    else worker.postMessage(how)
    await exit
    const lock = await acquireLock(cwd)
    assert.equal(lock.takenOver, undefined, 'it released: nothing was left behind')
    await lock.release()
    assert.equal(existsSync(lock.path), false)
  })
}

test('workers that are terminated while they acquire leave nothing behind', async (t) => {
  const cwd = directory(t)
  for (let round = 0; round < 20; round += 1) {
    const { worker } = start(cwd)
    await once(worker, 'online')
    worker.postMessage('acquire')
    await worker.terminate()
    await (await acquireLock({ cwd, timeout: 5000 })).release()
  }
})
