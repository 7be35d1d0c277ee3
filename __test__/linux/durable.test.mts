// The option `durable`: the record is on the disk when acquire returns.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLockSync, type LockError, resolveLockPath } from 'reconcile-lock'
import { bin } from '../support/cli.mjs'
import { deadPid, directory, leave } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { begun, ended, written } from '../support/program.mjs'
import { tracedEmulator } from '../support/qemu.mjs'
import { cannotAttach, type Order, Subject } from '../support/strace.mjs'

const unattachable = await cannotAttach()
const missing = spawnSync('strace', ['-V']).status !== 0 && 'strace is not installed'

const known: KnownFailure[] = [
  { runtime: 'deno', why: 'a process of Deno that strace is attached to may end early', sometimes: true },
  tracedEmulator,
]

/** The system calls on the lock and its directory, of the synchronous and the asynchronous call. */
async function callsOf(t: TestContext, order: Order['do'], isStale: boolean): Promise<string[][]> {
  const root = directory(t)
  const directories = { sync: join(root, 'sync'), async: join(root, 'async') }
  for (const cwd of Object.values(directories)) {
    mkdirSync(cwd)
    if (isStale) leave(cwd, { pid: deadPid(), createdAt: 1 })
  }
  const { report, sites } = await new Subject(t, directories, join(root, 'log')).traced(order, [])
  for (const outcome of [report.sync, report.async]) assert.equal(outcome?.error, undefined)
  return [sites.sync, sites.async].map((calls) => calls.map(({ syscall }) => syscall))
}

for (const isStale of [false, true]) {
  const lock = isStale ? 'stale' : 'free'

  test(
    `a durable acquire (${lock} lock) syncs file, then directory`,
    { skip: unattachable },
    knownFailure(known, async (t) => {
      for (const calls of await callsOf(t, 'durable', isStale)) {
        const write = calls.lastIndexOf('write')
        assert.ok(write >= 0, calls.join(' '))
        assert.deepEqual(calls.slice(-3), ['fdatasync', 'open', 'fsync'], calls.join(' '))
        assert.ok(write < calls.length - 3)
      }
    }),
  )

  test(
    `a default acquire (${lock} lock) syncs nothing`,
    { skip: unattachable },
    knownFailure(known, async (t) => {
      const [durable, other] = [await callsOf(t, 'durable', isStale), await callsOf(t, 'acquire', isStale)]
      for (const [index, calls] of other.entries()) assert.deepEqual(calls, durable[index]?.slice(0, -3))
    }),
  )
}

/** Runs a command under strace; returns the number of its calls of `fdatasync` on the lock of `cwd`. */
function syncsOf(t: TestContext, cwd: string, command: string[]): number {
  const log = join(directory(t), 'log')
  const strace = [
    '-f',
    '--seccomp-bpf',
    '-qq',
    '-o',
    log,
    '-e',
    'trace=fdatasync',
    '-P',
    resolveLockPath(cwd),
  ]
  const { status, stderr } = spawnSync('strace', [...strace, ...command], {
    cwd,
    encoding: 'utf8',
    timeout: 50_000,
  })
  assert.equal(status, 0, stderr)
  return readFileSync(log, 'utf8').match(/fdatasync\(/g)?.length ?? 0
}

const ACQUIRES = {
  withLock: 'await lock.withLock(() => {}, { cwd, durable })',
  'a waiting acquireLock': `
    const first = lock.acquireLockSync(cwd)
    const second = lock.acquireLock({ cwd, durable, timeout: 20_000 })
    await new Promise((resolve) => setTimeout(resolve, 100))
    first.releaseSync()
    await (await second).release()`,
  'a waiting acquireLockSync': `
    fs.writeFileSync(lock.resolveLockPath(cwd), JSON.stringify({ pid: process.pid, createdAt: 1 }))
    const onWait = () => fs.rmSync(lock.resolveLockPath(cwd))
    lock.acquireLockSync({ cwd, durable, timeout: 20_000, onWait }).releaseSync()`,
}

for (const [what, body] of Object.entries(ACQUIRES)) {
  test(
    `${what} syncs once if it is durable`,
    { skip: missing },
    knownFailure(known, (t) => {
      const cwd = directory(t)
      for (const durable of [true, false]) {
        const program = `const fs = require('node:fs'); const durable = ${durable}; (async () => {${body}})()`
        const syncs = syncsOf(t, cwd, [process.execPath, written(t, cwd, program)])
        assert.equal(syncs, durable ? 1 : 0)
      }
    }),
  )
}

test(
  'reconcile-lock run syncs once if it is durable',
  { skip: missing },
  knownFailure(known, (t) => {
    const cwd = directory(t)
    for (const flags of [['--durable'], []]) {
      const command = ['run', ...flags, '--', process.execPath, '-e', '']
      assert.equal(syncsOf(t, cwd, [process.execPath, bin, ...command]), flags.length)
    }
  }),
)

const ROUNDS = 5

// Asynchronous calls of the same thread have the lock, but no turn of the event loop to return it.
const UNDELIVERED = {
  'first attempt': `
    const first = lock.acquireLock(cwd)
    claim()
    await first.then(({ release }) => release(), () => {})`,
  wait: `
    const blocker = lock.acquireLockSync(cwd)
    const first = lock.acquireLock({ cwd, timeout: 20_000 })
    await new Promise((resolve) => setTimeout(resolve, 100))
    blocker.releaseSync()
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
    claim()
    await first.then(({ release }) => release())`,
}

for (const [kind, round] of Object.entries(UNDELIVERED)) {
  for (const durable of [true, false]) {
    test(
      `a ${durable ? 'durable' : 'default'} call ${durable ? 'syncs' : 'leaves'} the ${kind} that it claims`,
      { skip: missing },
      knownFailure(known, (t) => {
        const cwd = directory(t)
        const program = `
          function claim() {
            const claimed = lock.acquireLockSync({ cwd, durable: ${durable}, timeout: 20_000 })
            if (!claimed.isHeld()) throw new Error('lost')
            claimed.releaseSync()
          }
          ;(async () => {
            for (let count = 0; count < ${ROUNDS}; count += 1) {${round}
            }
          })()`
        assert.equal(syncsOf(t, cwd, [process.execPath, written(t, cwd, program)]), durable ? ROUNDS : 0)
      }),
    )
  }
}

/** Runs a program of the system; throws with its output. */
function execute(command: string, ...args: string[]): string {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', timeout: 30_000 })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr.trim()}`)
  return stdout
}

/** Mounts an image at a new directory. */
function mountImage(t: TestContext, image: string): string {
  const path = mkdtempSync(join(tmpdir(), 'reconcile-lock-'))
  t.after(() => {
    spawnSync('umount', ['--detach-loop', path])
    rmdirSync(path)
  })
  execute('mount', '-o', 'loop', image, path)
  return path
}

/** An image with an empty filesystem, or the reason why it cannot be mounted. */
function createImage(t: TestContext): { image: string; mounted: string } | { why: string } {
  const image = join(directory(t), 'image')
  try {
    writeFileSync(image, '')
    execute('truncate', '--size=32M', image)
    execute('mkfs.ext4', '-q', image)
    return { image, mounted: mountImage(t, image) }
  } catch (error) {
    return { why: `no loop-mounted ext4 can be had: ${(error as Error).message}` }
  }
}

/**
 * A process acquires, and the power fails: the records on the disk. `undefined`: an image cannot be mounted, so the test
 * is skipped.
 */
async function afterPowerFailure(t: TestContext, durable: boolean, isStale: boolean) {
  const created = createImage(t)
  if ('why' in created) return void t.skip(created.why)
  const cwd = join(created.mounted, 'locks')
  mkdirSync(cwd)
  if (isStale) leave(cwd, { pid: deadPid(), createdAt: 1 })
  // The directory is older than the lock.
  execute('sync', '--file-system', created.mounted)
  const body = `console.log(lock.acquireLockSync({ cwd, durable: ${durable} }).path); setInterval(() => {}, 1000)`
  const [child] = await begun(t, cwd, body)
  // The copy has the state of the disk, because the mount is neither synced nor unmounted.
  const copy = `${created.image}.copy`
  copyFileSync(created.image, copy)
  const end = once(child, 'exit')
  child.kill('SIGKILL')
  await end
  const after = join(mountImage(t, copy), 'locks')
  const records = readdirSync(after).map((name) => readFileSync(join(after, name), 'utf8').trimEnd())
  t.diagnostic(`the disk has ${JSON.stringify(records)}`)
  const isThere = records.some((record) => JSON.parse(record || 'null')?.pid === child.pid)
  return { after, pid: child.pid, isThere }
}

for (const isStale of [false, true]) {
  const what = `record (${isStale ? 'stale' : 'free'} lock)`

  test(`a durable ${what} survives a power failure`, async (t) => {
    const found = await afterPowerFailure(t, true, isStale)
    if (found === undefined) return
    assert.ok(found.isThere)
    const next = `const { takenOver } = lock.acquireLockSync(cwd); console.log(takenOver.holder.pid)`
    const { stdout, stderr } = ended(t, found.after, next)
    assert.equal(stdout, `${found.pid}\n`, stderr)
  })

  test(`a power failure may lose a default ${what}`, async (t) => {
    // The system may write it to the disk by itself, but not each time.
    for (let round = 0; round < 5; round += 1) {
      const found = await afterPowerFailure(t, false, isStale)
      if (found === undefined || !found.isThere) return
    }
    assert.fail('each record was on the disk: the tests of durable records show nothing')
  })
}

test('a durable synchronous call keeps what it acquires', (t) => {
  // If a sync takes no time, the lock is often acquired just before the call begins to sleep.
  const cwd = directory(t, '/dev/shm')
  const rounds = 10_000
  let acquired = 0
  for (let round = 0; round < rounds; round += 1) {
    try {
      acquireLockSync({ cwd, durable: true, timeout: 1 }).releaseSync()
      acquired += 1
    } catch (error) {
      // A busy machine may stop this process for longer than a first attempt has.
      assert.equal((error as LockError).reason, 'the filesystem has not answered')
    }
  }
  assert.ok(acquired > rounds / 2, `${acquired} of ${rounds} acquired`)
})
