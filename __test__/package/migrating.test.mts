// docs/migrating.md: how this lock and other locks interact, and that its code type-checks.
import assert from 'node:assert/strict'
import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import * as lockfile from 'lockfile'
import * as properLockfile from 'proper-lockfile'
import { acquireLock, inspectLockSync, resolveLockPath, withLock } from 'reconcile-lock'
import * as legacy from '../legacy/lock.mjs'
import { blocksOf, complaints } from '../support/blocks.mjs'
import { Peer } from '../support/child.mjs'
import { deadPid, directory, leave, rejection } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'
import { sleep, until } from '../support/time.mjs'

const HOUR = 3600

test('a legacy pid file and this lock exclude each other', async (t) => {
  const cwd = directory(t)
  const peer = new Peer(t)
  assert.equal((await peer.acquire(cwd, 'legacy')).ok, true)
  assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
  await peer.ends('SIGKILL')
  const lock = await acquireLock(cwd)
  assert.equal(lock.takenOver?.holder?.pid, peer.child.pid)
  assert.equal((await rejection(legacy.acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
  await lock.release()
  await legacy.acquireLock(cwd)
  await legacy.releaseLock(cwd)
})

test('a late unlink by a legacy process causes E_LOCK_LOST', async (t) => {
  const cwd = directory(t)
  leave(cwd, { pid: deadPid(), createdAt: 1 })
  let lock: Awaited<ReturnType<typeof acquireLock>> | undefined
  await legacy.acquireLock(cwd, {
    beforeUnlink: async () => {
      lock = await acquireLock(cwd)
    },
  })
  assert.ok(lock)
  assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
  assert.equal(existsSync(resolveLockPath(cwd)), true, 'the file of the legacy process stays')
})

for (const [what, content, code] of [
  ['only the pid key', JSON.stringify({ pid: process.ppid }), 'E_LOCK_CONTENTION'],
  [
    'pid and other keys',
    JSON.stringify({ pid: process.ppid, startedAt: 'x', argv: [] }),
    'E_LOCK_CONTENTION',
  ],
  ['a bare number', `${process.ppid}\n`, undefined],
] as const) {
  test(`a pid file with ${what} ${code ? 'is held' : 'is taken over'}`, async (t) => {
    const cwd = directory(t)
    leave(cwd, content, HOUR)
    if (code) assert.equal((await rejection(acquireLock(cwd))).code, code)
    else assert.ok((await acquireLock(cwd)).takenOver)
  })
}

/** A file that proper-lockfile locks, and the path of its lock. */
function target(t: TestContext): { cwd: string; data: string; file: string } {
  const cwd = directory(t)
  const data = join(cwd, 'data.csv')
  writeFileSync(data, '')
  return { cwd, data, file: `${data}.lock` }
}

test('acquireLock rejects a lock of proper-lockfile without waiting', async (t) => {
  const { data, file } = target(t)
  const release = await properLockfile.lock(data)
  const before = performance.now()
  assert.equal((await rejection(acquireLock({ file, timeout: 10_000 }))).code, 'E_LOCK_NOT_A_FILE')
  assert.ok(performance.now() - before < 5000)
  await release()
  await (await acquireLock({ file })).release()
})

test('proper-lockfile is refused even if our lock file is old', async (t) => {
  const { data, file } = target(t)
  const lock = await acquireLock({ file })
  assert.equal((await rejection(properLockfile.lock(data))).code, 'ELOCKED')
  utimesSync(file, 1, 1)
  assert.equal((await rejection(properLockfile.lock(data))).code, 'ENOTDIR')
  assert.equal(lock.isHeld(), true)
  await lock.release()
})

test('only proper-lockfile takes over its own stale directory', async (t) => {
  const { data, file } = target(t)
  mkdirSync(file)
  utimesSync(file, 1, 1)
  assert.equal((await rejection(acquireLock({ file }))).code, 'E_LOCK_NOT_A_FILE')
  await (await properLockfile.lock(data))()
})

test('proper-lockfile on another path does not exclude this lock', async (t) => {
  const { cwd, data } = target(t)
  const release = await properLockfile.lock(data)
  const lock = await acquireLock(cwd)
  assert.equal(lock.isHeld(), true)
  await lock.release()
  await release()
})

test('a symbolic link to the directory names the same lock', async (t) => {
  const cwd = directory(t)
  mkdirSync(join(cwd, 'one'))
  symlinkSync('one', join(cwd, 'two'))
  const lock = await acquireLock(join(cwd, 'one'))
  assert.equal((await rejection(acquireLock(join(cwd, 'two')))).code, 'E_LOCK_CONTENTION')
  await lock.release()
})

/** Runs the block of docs/migrating.md that contains `word`, after `change`. Its `work` is the body `work`. */
function runBlock(cwd: string, word: string, work: string, change = (code: string) => code): Promise<string> {
  const code = blocksOf('docs/migrating.md').find((block) => block.includes(word))
  assert.ok(code, `no block contains ${word}`)
  for (const [name, path] of [
    ['reconcile-lock', root],
    ['proper-lockfile', join(root, 'node_modules/proper-lockfile')],
  ] as const) {
    mkdirSync(join(cwd, 'node_modules'), { recursive: true })
    symlinkSync(path, join(cwd, 'node_modules', name), 'junction')
  }
  writeFileSync(join(cwd, 'block.mjs'), `${change(code)}\nasync function work() { ${work} }\n`)
  return new Promise((resolve) => {
    execFile(process.execPath, ['block.mjs'], { cwd }, (_, stdout, stderr) => resolve(stdout + stderr))
  })
}

test('the recipe with realpath follows a link to the file', async (t) => {
  const { cwd, data } = target(t)
  const link = join(cwd, 'link.csv')
  symlinkSync('data.csv', link)
  const release = await properLockfile.lock(data)
  assert.equal((await rejection(properLockfile.lock(link))).code, 'ELOCKED')
  await release()
  const lock = await acquireLock({ file: `${data}.lock` })
  await (await acquireLock({ file: `${link}.lock` })).release()
  const change = (code: string) => code.replace('data.csv', 'link.csv').replace('30_000', '0')
  assert.match(await runBlock(cwd, 'realpath', 'console.log("works")', change), /E_LOCK_CONTENTION/)
  await lock.release()
})

test('an empty lockfile file is taken over after 2 s', async (t) => {
  const file = join(directory(t), 'data.lock')
  const before = Date.now()
  lockfile.lockSync(file)
  const lock = await acquireLock({ file })
  assert.ok(Date.now() - before > 1900, 'it was taken over too early')
  assert.match(lock.takenOver?.reason ?? '', /empty/)
  await lock.release()
})

test('lockfile is refused, but removes our file with `stale`', async (t) => {
  const file = join(directory(t), 'data.lock')
  const lock = await acquireLock({ file })
  assert.throws(() => lockfile.lockSync(file), { code: 'EEXIST' })
  // Whole seconds: lockfile rounds up any other time if that of the file is in whole seconds. It compares whole milliseconds.
  await until(() => Date.now() - statSync(file).ctime.getTime() > 1000, 'the file is older than `stale`')
  lockfile.lockSync(file, { stale: 1000 })
  assert.equal(lock.isHeld(), false)
  assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
  lockfile.unlockSync(file)
})

/** Acquires without waiting, and releases when its input ends. */
const FILELOCK = `import sys, filelock
try:
    lock = filelock.FileLock(sys.argv[1], timeout=0)
    lock.acquire()
except filelock.Timeout:
    sys.exit('Timeout')
print('held', flush=True)
sys.stdin.read()
lock.release()`

test('FileLock of Python and this lock exclude each other', async (t) => {
  if (process.platform !== 'linux' || spawnSync('python3', ['-c', 'import filelock']).status !== 0)
    return t.skip('needs Linux, and filelock of Python')
  const file = join(directory(t), 'data.lock')
  const lock = await acquireLock({ file })
  const refused = spawnSync('python3', ['-c', FILELOCK, file], { encoding: 'utf8' })
  assert.equal(refused.stderr, 'Timeout\n')
  assert.equal(lock.isHeld(), true)
  await lock.release()
  const child = spawn('python3', ['-c', FILELOCK, file], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  assert.equal((await rejection(acquireLock({ file }))).code, 'E_LOCK_CONTENTION')
  child.stdin.end()
  await once(child, 'exit')
  const next = await acquireLock({ file })
  assert.match(next.takenOver?.reason ?? '', /empty/)
  await next.release()
})

test('holding both locks excludes old and new processes', async (t) => {
  const { cwd, data } = target(t)
  const file = join(cwd, 'data.new.lock')
  const both = (work: () => Promise<void>) =>
    withLock(
      async () => {
        const release = await properLockfile.lock(data)
        try {
          await work()
        } finally {
          await release()
        }
      },
      { file },
    )
  await both(async () => {
    assert.equal((await rejection(properLockfile.lock(data))).code, 'ELOCKED')
    assert.equal((await rejection(both(async () => {}))).code, 'E_LOCK_CONTENTION')
  })
  const release = await properLockfile.lock(data)
  assert.equal((await rejection(both(async () => {}))).code, 'ELOCKED')
  assert.equal(inspectLockSync({ file }).state, 'free', 'its own lock is released')
  await release()
})

test('the recipe for both locks waits for a long `stale`', async (t) => {
  const { cwd, data, file } = target(t)
  const blocks = blocksOf('docs/migrating.md').filter((code) =>
    code.includes('{ retries: 5, stale: 60_000 }'),
  )
  assert.equal(blocks.length, 2, 'the old code and the recipe have the same options')
  // An old process that lives and updates its lock every 30 s.
  mkdirSync(file)
  const time = Date.now() / 1000 - 20
  utimesSync(file, time, time)
  writeFileSync(join(cwd, 'old'), '')
  const work = 'console.log((await import("node:fs")).existsSync("old") ? "both work" : "works alone")'
  const said = runBlock(cwd, 'data.new.lock', work)
  await until(() => existsSync(join(cwd, 'data.new.lock')), 'the new process has its own lock')
  await sleep(500, 'a take-over would end within that time')
  rmSync(join(cwd, 'old'))
  rmSync(file, { recursive: true })
  assert.equal(await said, 'works alone\n')
  await (await properLockfile.lock(data))()
})

test('the code of docs/migrating.md type-checks', (t) => {
  // One block may show two versions of the same names.
  const parts = blocksOf('docs/migrating.md')
    .flatMap((code) => code.split(/^\/\/ (?:before|after)$/m))
    .filter((code) => code.trim() !== '')
  assert.equal(parts.length, 8)
  const declared = 'declare function work(): Promise<void>\ndeclare function workSync(): void\nexport {}\n'
  const blocks = parts.map((code) => `${code.replace('./state/lock.js', './lock.mjs')}\n${declared}`)
  const code = 'export { acquireLock, releaseLock } from "reconcile-lock"\n'
  assert.equal(complaints(t, blocks, { 'lock.mts': code }), '')
})
