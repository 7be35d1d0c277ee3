// The lock file under the kernel lock of a program that is not reconcile-lock: `flock(1)`.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { acquireLock, breakLock, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { cli } from '../support/cli.mjs'
import { directory } from '../support/directory.mjs'

/** `flock FILE`, which creates the file if it is missing; it has said so when it holds the lock. */
async function flock(t: TestContext, path: string) {
  const child = spawn('flock', ['--no-fork', path, 'sh', '-c', 'echo holds; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child
}

for (const [what, content] of [
  ['that it has created', undefined],
  ['with other content', 'id,amount\n'],
] as const) {
  test(`flock(1) of a lock file ${what} is reported with its process`, async (t) => {
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
    // An empty file alone is left to its creator for 2 s.
    assert.ok(performance.now() - begun < 1000, `${performance.now() - begun} ms`)

    const { code, stderr } = cli(cwd, ['run', '--', 'true'])
    assert.equal(code, 75)
    assert.match(stderr, /-lock\.json is held: process \d+ holds the kernel lock without a record/)

    const waiting = acquireLock({ cwd, timeout: Infinity })
    child.kill('SIGKILL')
    await (await waiting).release()
  })
}
