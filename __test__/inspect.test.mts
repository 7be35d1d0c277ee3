import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { test } from 'node:test'
import { acquireLockSync, inspectLock, inspectLockSync } from 'reconcile-lock'
import { Bystanders } from './support/bystander.mjs'
import { Peer } from './support/child.mjs'
import { deadPid, directory, leave } from './support/directory.mjs'

const seconds = 3

test('inspectors that never rest do not have an acquirer refused, or a take-over', async (t) => {
  const cwd = directory(t)
  const inspectors = await Bystanders.start(t, 3, 'inspect', cwd)
  const dead = deadPid()
  let [pairs, takeovers] = [0, 0]
  for (const end = performance.now() + seconds * 1000; performance.now() < end; pairs += 1) {
    if (pairs % 50 === 0) leave(cwd, { pid: dead, createdAt: 1 })
    const lock = acquireLockSync(cwd)
    takeovers += lock.takenOver ? 1 : 0
    assert.equal(lock.isHeld(), true)
    lock.releaseSync()
  }
  const looks = await inspectors.end()
  t.diagnostic(`${pairs} pairs, ${takeovers} of them take-overs, beside ${looks} looks`)
  assert.ok(pairs > 100 && takeovers > 2 && looks > 100)
  assert.equal(takeovers, Math.ceil(pairs / 50))
})

const states: [string, (cwd: string) => unknown][] = [
  ['held', (cwd) => acquireLockSync(cwd)],
  ['left by a dead process', (cwd) => leave(cwd, { pid: deadPid(), createdAt: 1 })],
  ['an old lock of a live process', (cwd) => leave(cwd, { pid: process.pid, createdAt: 1 })],
  ['empty and old', (cwd) => leave(cwd, '')],
  ['empty and young', (cwd) => leave(cwd, '', 0)],
  ['no record', (cwd) => leave(cwd, 'hello')],
]

for (const [state, make] of states) {
  test(`a look at a file that is ${state} changes nothing of it, and makes no other`, async (t) => {
    const cwd = directory(t)
    make(cwd)
    const { path } = inspectLockSync(cwd)
    const seen = () => {
      const { atimeNs: _, atimeMs: __, atime: ___, ...stat } = statSync(path, { bigint: true })
      return { stat, bytes: readFileSync(path), files: readdirSync(cwd) }
    }
    const before = seen()
    for (let look = 0; look < 50; look += 1) assert.deepEqual(await inspectLock(cwd), inspectLockSync(cwd))
    assert.deepEqual(seen(), before)
  })
}

test('who holds it, since when and on which host, in one sentence', async (t) => {
  const cwd = directory(t)
  const peer = new Peer(t)
  await peer.acquire(cwd)
  const { holder, reason } = inspectLockSync(cwd)
  const since = new Date(holder?.createdAt ?? 0).toISOString()
  assert.equal(reason, `process ${peer.child.pid} on ${hostname()} holds it since ${since}`)
  await peer.ends('SIGKILL')
  assert.equal(inspectLockSync(cwd).reason, `process ${peer.child.pid} ended without releasing`)
})
