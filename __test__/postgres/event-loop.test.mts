// A program that blocks its event loop; its server cannot detect that.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MessageChannel, Worker } from 'node:worker_threads'
import { postgresLocks } from 'reconcile-lock/postgres'
import { responseTimer } from '../../lib/postgres/response-timer.js'
import { DEADLINE, sleep } from '../support/time.mjs'
import { Postgres } from './postgres.mjs'

/** The minimum, so that the test is short. */
const SESSION_TIMEOUT = 4000

test('a blocked event loop loses no lock', async (t) => {
  const postgres = await Postgres.start()
  const locks = postgresLocks({ connectionString: postgres.url(), sessionTimeout: SESSION_TIMEOUT })
  t.after(async () => {
    await locks.close()
    await postgres.stop()
  })
  const lock = await locks.acquireLock('blocked')
  for (let round = 0; round < 3; round += 1) {
    await sleep(SESSION_TIMEOUT / 4 - 5, 'the next query to the server is due')
    const end = performance.now() + SESSION_TIMEOUT / 2 + 100
    while (performance.now() < end);
    await sleep(10, 'the answer is read')
    assert.equal(lock.isHeld(), true)
  }
  await lock.release()
})

test('a response timer ends after pending messages are read', async (t) => {
  const { port1, port2 } = new MessageChannel()
  t.after(() => port1.close())
  const events: string[] = []
  port1.on('message', () => events.push('answer'))
  const isOver = new Promise<void>((resolve) => {
    responseTimer(100, () => {
      events.push('end')
      resolve()
    })
  })
  const isSent = new Int32Array(new SharedArrayBuffer(4))
  const program = `const { port, isSent } = require('node:worker_threads').workerData
    port.postMessage('answer')
    Atomics.store(isSent, 0, 1)`
  new Worker(program, { eval: true, workerData: { port: port2, isSent }, transferList: [port2] })
  // Blocks for longer than the timer runs, and until the answer is sent.
  const start = performance.now()
  const passed = () => performance.now() - start
  while (passed() < 150 || (Atomics.load(isSent, 0) === 0 && passed() < DEADLINE));
  await isOver
  assert.deepEqual(events, ['answer', 'end'])
})
