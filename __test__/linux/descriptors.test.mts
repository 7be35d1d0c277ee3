// Other code of the program closes the descriptor of a lock file, and what the open of a lock file changes.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { acquireLock, acquireLockSync, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { deadPid, directory, leave, rejection } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { ended, written } from '../support/program.mjs'
import { DEADLINE, sleep } from '../support/time.mjs'

const onlyItsOwn: KnownFailure = {
  runtime: 'deno',
  why: 'Deno does not close a descriptor that it has not opened',
}

/** The descriptor that the command line passes to its command. */
const inheritable = (lock: object) =>
  (lock as { [key: symbol]: () => number | undefined })[Symbol.for('reconcile-lock.descriptor')]?.()

/** The number of the descriptor with which this process has a file open. */
function descriptorOf(path: string): number {
  const isIt = (name: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`) === path
    } catch {
      return false
    }
  }
  return Number(readdirSync('/proc/self/fd').find(isIt))
}

for (const [what, release] of [
  ['release', (lock: ReturnType<typeof acquireLockSync>) => rejection(lock.release())],
  [
    'releaseSync',
    async (lock: ReturnType<typeof acquireLockSync>) => {
      try {
        lock.releaseSync()
      } catch (error) {
        return error as NodeJS.ErrnoException
      }
    },
  ],
] as const) {
  for (const isReused of [false, true]) {
    const does = isReused
      ? 'does not close a file that reused its descriptor'
      : 'reports that other code closed its descriptor'
    test(
      `${what} ${does}`,
      knownFailure(onlyItsOwn, async (t) => {
        const cwd = directory(t)
        const path = resolveLockPath({ cwd })
        const lock = acquireLockSync(cwd)
        const descriptor = descriptorOf(path)
        assert.equal(inheritable(lock), descriptor)
        closeSync(descriptor)
        const other = isReused ? openSync(`${cwd}/other`, 'w') : undefined
        if (isReused) assert.equal(other, descriptor)
        assert.equal(lock.isHeld(), false)
        assert.equal(inheritable(lock), undefined)
        const error = await release(lock)
        assert.equal(error?.code, 'E_LOCK_LOST')
        assert.match(error.message, /another part of this program closed its file/)
        if (other !== undefined) {
          assert.ok(fstatSync(other).isFile())
          closeSync(other)
        }
        assert.ok(existsSync(path), 'another process may hold it')
        assert.equal(inspectLockSync({ cwd }).state, 'stale')
        const next = acquireLockSync(cwd)
        assert.match(next.takenOver?.reason ?? '', /did not release the lock/)
        next.releaseSync()
      }),
    )
  }
}

for (const [when, waitsBefore] of [
  ['meanwhile', true],
  ['already', false],
] as const) {
  test(
    `a waiter acquires a lock whose descriptor is closed ${when}`,
    knownFailure(onlyItsOwn, async (t) => {
      const cwd = directory(t)
      const lock = acquireLockSync(cwd)
      const close = () => closeSync(descriptorOf(lock.path))
      if (!waitsBefore) close()
      const waited = acquireLock({ cwd, timeout: DEADLINE })
      await sleep(50, 'the call waits')
      if (waitsBefore) close()
      assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
      const next = await waited
      assert.match(next.takenOver?.reason ?? '', /did not release the lock/)
      await next.release()
    }),
  )
}

test('output to closed streams does not reach lock files', (t) => {
  const cwd = directory(t)
  leave(cwd, { pid: deadPid(), createdAt: 1 }, 60, 'stale')
  const { code, stderr } = ended(
    t,
    cwd,
    `const fs = require('node:fs')
      for (const stream of [0, 1]) fs.closeSync(stream)
      const held = ['free', 'stale'].map((file) => lock.acquireLockSync({ cwd, file }))
      const records = () => held.map(({ path }) => fs.readFileSync(path, 'utf8')).join('')
      const before = records()
      for (const stream of [0, 1]) {
        try {
          fs.writeSync(stream, 'output')
        } catch {}
      }
      if (records() !== before) throw new Error(records())
      for (const one of held) one.releaseSync()`,
  )
  assert.equal(code, 0, stderr)
  assert.deepEqual(readdirSync(cwd), [])
})

test('a child inherits no lock file of closed streams', (t) => {
  const cwd = directory(t)
  leave(cwd, { pid: deadPid(), createdAt: 1 }, 60, 'stale')
  const { code, stderr } = ended(
    t,
    cwd,
    `const fs = require('node:fs')
      const { spawnSync } = require('node:child_process')
      for (const stream of [0, 1]) fs.closeSync(stream)
      const held = ['free', 'stale'].map((file) => lock.acquireLockSync({ cwd, file }))
      // Node.js aborts if a pipe to a child has the number of a stream.
      for (const stream of [0, 1]) fs.openSync('/dev/null')
      const { stdout } = spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' })
      if (stdout === '' || held.some(({ path }) => stdout.includes(path))) throw new Error(stdout)
      for (const one of held) one.releaseSync()`,
  )
  assert.equal(code, 0, stderr)
})

test(
  'a reader with a stolen descriptor closes no other file',
  knownFailure(onlyItsOwn, async (t) => {
    const cwd = directory(t)
    const lock = acquireLockSync({ cwd, file: 'l', shared: true })
    const descriptor = descriptorOf(`${lock.path}.readers`)
    closeSync(descriptor)
    const other = openSync(`${cwd}/other`, 'w')
    assert.equal(other, descriptor)
    assert.equal(lock.isHeld(), false)
    assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
    assert.ok(fstatSync(other).isFile())
    closeSync(other)
  }),
)

// The first terminal that a process of a new session opens becomes its controlling one.
const IN_A_SESSION = `
import os, pty, subprocess, sys
name = os.ttyname(pty.openpty()[1])
subprocess.run([*sys.argv[1:], name], start_new_session=True, stdin=subprocess.DEVNULL, check=True)`

for (const shared of [false, true]) {
  test(`a release in a moved directory covers children (shared: ${shared})`, (t) => {
    const home = directory(t)
    const [cwd, moved] = [join(home, 'a'), join(home, 'b')]
    mkdirSync(cwd)
    const lock = acquireLockSync({ cwd, file: 'a.lock', shared })
    const descriptor = descriptorOf(shared ? `${lock.path}.readers` : lock.path)
    const child = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', descriptor] })
    t.after(() => child.kill())
    renameSync(cwd, moved)
    assert.throws(() => lock.releaseSync(), { code: 'E_LOCK_LOST' })
    acquireLockSync({ cwd: moved, file: 'a.lock' }).releaseSync()
  })
}

test('acquiring a terminal does not make it the controlling terminal', (t) => {
  const program = written(
    t,
    directory(t),
    `const file = process.argv[2]
    const codes = [lock.acquireLockSync, lock.inspectLockSync].map((call) => {
      try { return call({ file }) } catch ({ code }) { return code }
    })
    const stat = require('node:fs').readFileSync('/proc/self/stat', 'utf8')
    const terminal = stat.slice(stat.lastIndexOf(')')).split(' ')[5]
    process.stdout.write([...codes, terminal].join())`,
  )
  const args = ['-c', IN_A_SESSION, process.execPath, program]
  const { stdout, stderr } = spawnSync('python3', args, { encoding: 'utf8' })
  assert.deepEqual([stdout, stderr], ['E_LOCK_NOT_A_FILE,E_LOCK_NOT_A_FILE,0', ''])
})
