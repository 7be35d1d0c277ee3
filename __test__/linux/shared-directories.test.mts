// Other programs mount, swap or fill a directory while a lock in it is acquired, held or released.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLock, acquireLockSync, breakLock, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { Peer } from '../support/child.mjs'
import { cli } from '../support/cli.mjs'
import { deadPid, directory, leave, rejection } from '../support/directory.mjs'
import { attach, cannotAttach, isDelayed } from '../support/strace.mjs'
import { until } from '../support/time.mjs'

const isRoot = process.getuid?.() === 0

/** A directory in which the lock file is a mount of `source`, or why it cannot be mounted. */
function bound(t: TestContext, source: string): { cwd: string; why?: string } {
  const umount = () => spawnSync('umount', ['--lazy', path])
  t.after(() => umount())
  const cwd = directory(t)
  const path = resolveLockPath(cwd)
  writeFileSync(path, '')
  const { status, stderr } = spawnSync('mount', ['--bind', source, path], { encoding: 'utf8' })
  return status === 0 ? { cwd } : { cwd, why: `a file cannot be mounted: ${stderr.trim()}` }
}

test('a mount point is released in place', async (t) => {
  const source = join(directory(t), 'source')
  writeFileSync(source, '{')
  const { cwd, why } = bound(t, source)
  if (why !== undefined) return t.skip(why)
  const first = await acquireLock(cwd)
  assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
  await first.release()
  assert.equal(inspectLockSync(cwd).state, 'free')
  for (let round = 0; round < 3; round += 1) {
    const { code, stderr } = cli(cwd, ['run', '--', 'true'])
    assert.deepEqual([code, stderr], [0, ''])
  }
  const killed = new Peer(t)
  assert.equal((await killed.acquire(cwd)).ok, true)
  await killed.ends('SIGKILL')
  const next = await acquireLock(cwd)
  assert.equal(next.takenOver?.holder?.pid, killed.child.pid, 'a stale lock is still taken over')

  rmSync(source)
  await next.release()
  for (const call of [acquireLock, breakLock]) {
    const error = await rejection(call(cwd))
    assert.equal(error.code, 'E_LOCK_NOT_A_FILE')
    assert.match(error.message, /a file without links, such as a mount point whose original was removed/)
  }
  assert.throws(() => inspectLockSync(cwd), { code: 'E_LOCK_NOT_A_FILE' })
  assert.equal(cli(cwd, ['run', '--', 'true']).code, 73)
})

test('release in a swapped directory removes no other lock', {
  skip: await cannotAttach(),
}, async (t) => {
  const parent = directory(t)
  const [project, other] = [join(parent, 'project'), join(parent, 'other')]
  for (const path of [project, other]) mkdirSync(path)
  const victim = new Peer(t)
  assert.equal((await victim.acquire(project)).ok, true)
  const held = acquireLockSync(other)
  // Delays the removal after the check of the name.
  const log = join(parent, 'log')
  const options = [
    '-f',
    '-o',
    log,
    '-e',
    'trace=newfstatat,statx,unlinkat',
    '-e',
    'inject=unlinkat:delay_enter=600000',
  ]
  const detach = await attach(victim.child.pid, options)
  // After a delay, strace may wait for an ended process.
  t.after(() => detach('SIGKILL'))
  const released = victim.ask({ do: 'release', cwd: project })
  const name = basename(resolveLockPath(project))
  await until(() => readFileSync(log, 'utf8').includes(`"${name}"`), 'the release has checked the name')
  renameSync(project, join(parent, 'moved'))
  symlinkSync(other, project)
  assert.equal((await released).ok, true)
  await until(() => isDelayed(log), 'the removal was delayed')
  assert.ok(held.isHeld(), 'the other lock stays')
  assert.ok(!existsSync(resolveLockPath(join(parent, 'moved'))), 'its own lock file is removed')
  held.releaseSync()
})

/** Starts a program that renames a new empty file over the path again and again. */
async function flood(t: TestContext, path: string, mode: string): Promise<ChildProcess> {
  const script = `i=0; while :; do i=$((i+1)); : > "$0.$i"; chmod ${mode} "$0.$i"; mv "$0.$i" "$0"; [ $i = 1 ] && echo begun; sleep 0.4; done`
  const child = spawn('sh', ['-c', script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child
}

test('new empty files delay a call by 2 s', async (t) => {
  const cwd = directory(t)
  await flood(t, resolveLockPath(cwd), '600')
  for (const call of [async () => acquireLockSync(cwd), () => acquireLock(cwd), () => breakLock(cwd)]) {
    const begun = performance.now()
    const error = await rejection(call())
    const took = performance.now() - begun
    assert.deepEqual([error.code, error.reason], ['E_LOCK_CONTENTION', 'a process is creating it right now'])
    assert.ok(took > 1500 && took < 3000, `${took} ms`)
  }
  assert.equal(inspectLockSync(cwd).state, 'held')
})

test('a shared kernel lock delays a call by 0.3 s', async (t) => {
  const cwd = directory(t)
  const path = leave(cwd, { pid: deadPid(), createdAt: 1 })
  const child = spawn('flock', ['--shared', '--no-fork', path, 'sh', '-c', 'echo holds; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  for (const call of [async () => acquireLockSync(cwd), () => acquireLock(cwd), () => breakLock(cwd)]) {
    const begun = performance.now()
    const error = await rejection(call())
    const took = performance.now() - begun
    assert.equal(error.code, 'E_LOCK_CONTENTION')
    assert.match(String(error.reason), /^another process holds the kernel lock in shared mode/)
    // The bound is ten times the delay, for a busy machine.
    assert.ok(took > 250 && took < 3000, `${took} ms`)
  }
})

test('a lease on the lock file is contention', async (t) => {
  const cwd = directory(t)
  const path = leave(cwd, { pid: deadPid(), createdAt: 1 })
  // F_SETLEASE is 1024, F_WRLCK 1. The signal that a lease break sends is ignored.
  const script = `import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, 1024, 1)
print("leased", flush=True)
signal.pause()`
  const child = spawn('python3', ['-c', script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  const error = await rejection(acquireLock(cwd))
  assert.deepEqual(
    [error.code, error.reason],
    ['E_LOCK_CONTENTION', 'another process has a lease on the file'],
  )
  assert.equal(inspectLockSync(cwd).state, 'held')
  const waiting = acquireLock({ cwd, timeout: Number.POSITIVE_INFINITY })
  child.kill('SIGKILL')
  await (await waiting).release()
})

test('break --force needs only the permission to unlink', {
  skip: !isRoot && 'only root can act as another user',
}, async (t) => {
  const cwd = directory(t)
  const user = new Peer(t, { uid: 65534 })
  chownSync(cwd, 65534, 65534)
  const path = leave(cwd, { pid: deadPid(), createdAt: 1 })
  spawnSync('chmod', ['600', path])
  const refused = await user.ask({ do: 'acquire', cwd })
  assert.equal(refused.code, 'EACCES')
  assert.match(refused.message ?? '', /belongs to user 0/)
  assert.equal((await user.ask({ do: 'force', cwd })).value, true)
  assert.ok(!existsSync(path))
})
