// The lock file under the kernel lock of another program, `flock(1)`.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { acquireLock, acquireLockSync, breakLock, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { cli } from '../support/cli.mjs'
import { directory, leave, readRecord, rejection } from '../support/directory.mjs'

/** Starts `flock FILE`, which creates a missing file, and waits until it holds the lock. */
async function flock(t: TestContext, path: string) {
  const child = spawn('flock', ['--no-fork', path, 'sh', '-c', 'echo holds; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child
}

for (const [what, content] of [
  ['its new file', undefined],
  ['a data file', 'id,amount\n'],
] as const) {
  test(`contention names the process of flock(1) on ${what}`, async (t) => {
    const cwd = directory(t)
    const path = resolveLockPath(cwd)
    if (content !== undefined) writeFileSync(path, content)
    const child = await flock(t, path)
    const expected = new RegExp(
      `^process ${child.pid} holds the kernel lock without a record: a program other than reconcile-lock`,
    )
    const begun = performance.now()
    for (const call of [acquireLock, breakLock])
      await assert.rejects(call(cwd), { code: 'E_LOCK_CONTENTION', reason: expected })
    const { state, reason } = inspectLockSync(cwd)
    assert.equal(state, 'held')
    assert.match(reason, expected)
    // Only an empty file without a kernel lock is in its creation grace period of 2 s.
    assert.ok(performance.now() - begun < 1000, `${performance.now() - begun} ms`)

    const { code, stderr } = cli(cwd, ['run', '--', 'true'])
    assert.equal(code, 75)
    assert.match(stderr, /-lock\.json is held: process \d+ holds the kernel lock without a record/)

    const waiting = acquireLock({ cwd, timeout: Infinity })
    child.kill('SIGKILL')
    await (await waiting).release()
  })
}

test('a reader is refused for the same reason again', async (t) => {
  const cwd = directory(t)
  const own = acquireLockSync(cwd)
  // Another process has the pid of the holder now, whose child keeps the kernel lock.
  const record = { ...readRecord(own.path), startTime: 1 }
  own.releaseSync()
  const child = await flock(t, leave(cwd, record))
  const read = async () => acquireLockSync({ cwd, shared: true, legacy: false })
  const [first, second] = [await rejection(read()), await rejection(read())]
  assert.match(String(first.reason), new RegExp(`^process ${child.pid} holds the kernel lock`))
  assert.deepEqual({ ...second }, { ...first })
})
