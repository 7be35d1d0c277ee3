// Two runs that wait for each other: the refusal and the waiting line say so.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { acquireLock, inspectLockSync, type WaitStatus } from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { Running, shell, waits } from '../support/cli.mjs'
import { directory, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { until } from '../support/time.mjs'

const shellOfDeno = { runtime: 'deno', why: 'Deno started by a shell has no permissions' } as const

test('a wait names the process that waits for this one', async (t) => {
  const cwd = directory(t)
  const other = new Peer(t)
  const own = await acquireLock({ cwd, file: 'a' })
  assert.equal((await other.ask({ do: 'acquire', cwd, options: { file: 'b' } })).ok, true)
  const theirs = other.ask({ do: 'acquire', cwd, options: { file: 'a', timeout: 30_000 } })
  await until(() => waits(other.child.pid), 'the other process waits')
  const seen: WaitStatus[] = []
  const onWait = (status: WaitStatus) => seen.push(status)
  const { reason } = await rejection(acquireLock({ cwd, file: 'b', timeout: 1000, onWait }))
  const expected = `a possible deadlock, because process ${other.child.pid} waits for ${own.path}, which this process holds`
  assert.deepEqual([reason, seen[0]?.reason], [expected, expected])
  // The task that waited here was not the one that holds b.
  await own.release()
  assert.equal((await theirs).ok, true)
})

test('a second wait of a reader names the waiting owner', async (t) => {
  const cwd = directory(t)
  const shared = { cwd, file: 'a', shared: true }
  const own = await acquireLock(shared)
  const other = new Peer(t)
  const theirs = other.ask({ do: 'acquire', cwd, options: { file: 'a', timeout: 30_000 } })
  await until(() => inspectLockSync({ cwd, file: 'a' }).holder?.pid === other.child.pid, 'the owner waits')
  const { reason } = await rejection(acquireLock({ ...shared, timeout: 1000 }))
  const path = `${own.path}.readers`
  assert.equal(
    reason,
    `a possible deadlock, because process ${other.child.pid} waits for ${path}, which this process holds`,
  )
  await own.release()
  assert.equal((await theirs).ok, true)
})

test('a wait for an active process has no reason', async (t) => {
  const cwd = directory(t)
  const other = new Peer(t)
  const own = await acquireLock({ cwd, file: 'a' })
  for (const file of ['b', 'c']) await other.ask({ do: 'acquire', cwd, options: { file } })
  const third = new Peer(t)
  const theirs = third.ask({ do: 'acquire', cwd, options: { file: 'a', timeout: 30_000 } })
  await until(() => waits(third.child.pid), 'a third process waits')
  const error = await rejection(acquireLock({ cwd, file: 'b', timeout: 1000 }))
  assert.deepEqual([error.code, error.reason], ['E_LOCK_CONTENTION', undefined])
  await own.release()
  assert.equal((await theirs).ok, true)
})

test('readers that watch their lock report no deadlock', async (t) => {
  const cwd = directory(t)
  const own = await acquireLock({ cwd, file: 'a', shared: true })
  const reader = shell(['run', '-s', '--file', 'a', '--', 'sh', '-c', 'echo ready; exec sleep 60'])
  const holder = new Running(t, cwd, ['run', '--file', 'b', '--', 'sh', '-c', reader])
  await until(() => holder.stdout === 'ready\n', 'the holder of b reads a')
  const error = await rejection(acquireLock({ cwd, file: 'b', timeout: 1000 }))
  assert.deepEqual([error.code, error.reason], ['E_LOCK_CONTENTION', undefined])
  holder.child.kill()
  await holder.ends()
  await own.release()
})

test(
  'nested commands report their deadlock',
  knownFailure(shellOfDeno, async (t) => {
    const cwd = directory(t)
    const run = (first: string, second: string, wait: string) => {
      const inner = shell(['run', '--file', second, '--wait', wait, '--', 'true'])
      const afterGo = `until [ -e go ]; do sleep 0.01; done; exec ${inner}`
      return new Running(t, cwd, ['run', '--file', first, '--', 'sh', '-c', afterGo])
    }
    const [one, two] = [run('a', 'b', '30'), run('b', 'a', '2')]
    await until(() => ['a', 'b'].every((file) => inspectLockSync({ cwd, file }).state === 'held'))
    writeFileSync(join(cwd, 'go'), '')
    const { code, stderr } = await two.ends()
    assert.equal(code, 75)
    assert.match(
      stderr,
      /: a possible deadlock, because process \d+ waits for \S+\/b, which this process holds\n$/,
    )
    assert.equal((await one.ends()).code, 0)
  }),
)
