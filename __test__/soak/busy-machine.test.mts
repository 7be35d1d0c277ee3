// More busy processes than processors.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { test } from 'node:test'
import { acquireLock } from 'reconcile-lock'
import { directory } from '../support/directory.mjs'

const ROUNDS = 60

test('busy processes do not block the event loop', async (t) => {
  const cwd = directory(t)
  for (let number = 0; number < 4 * availableParallelism(); number += 1) {
    // The limit ends it if this file is killed.
    const busy = spawn('sh', ['-c', 'ulimit -t 30; echo begun; while :; do :; done'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.after(() => busy.kill('SIGKILL'))
    await once(busy.stdout, 'data')
  }
  const blocked: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    const begun = performance.now()
    const promise = acquireLock(cwd)
    blocked.push(performance.now() - begun)
    const lock = await promise
    await lock.release()
  }
  blocked.sort((a, b) => a - b)
  const median = blocked[ROUNDS / 2] ?? Number.POSITIVE_INFINITY
  t.diagnostic(`a call blocks the event loop for ${median.toFixed(2)} ms`)
  assert.ok(median < 2, `${median} ms`)
})
