// Faults that a healthy system does not show: strace makes single calls on the lock's path fail or hang.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { type TestContext, test } from 'node:test'
import { acquireLock, acquireLockSync, breakLock, inspectLock, resolveLockPath } from 'reconcile-lock'
import { bin } from '../support/cli.mjs'
import { deadPid, directory, leave, rejection } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { begun } from '../support/program.mjs'
import { tracedEmulator } from '../support/qemu.mjs'
import {
  assertSystemError,
  attach,
  cannotAttach,
  type Outcome,
  type Site,
  Subject,
  type Traced,
} from '../support/strace.mjs'

const main = createRequire(import.meta.url).resolve('reconcile-lock')
const missing = spawnSync('strace', ['-V']).status !== 0 && 'strace is not installed'
const unattachable = await cannotAttach()

const known: KnownFailure[] = [
  {
    runtime: 'deno',
    why: 'a process of Deno that strace is attached to may end early',
    sometimes: true,
  },
  tracedEmulator,
]

/**
 * Runs `program` with `cwd` and the package's functions in scope, and returns the JSON that it prints. Asserts that strace
 * delayed a call or made one fail.
 */
function traced(cwd: string, inject: string, program: string, more: string[] = []): Record<string, unknown> {
  const text = `
    const cwd = ${JSON.stringify(cwd)}
    const { acquireLock, acquireLockSync, breakLock, inspectLock } = require(${JSON.stringify(main)})
    const summary = ({ code, message, path, syscall, errno, holder }) =>
      ({ code, message, path, syscall, errno, holder })
    ;(async () => {${program}})().then((printed) => console.log(JSON.stringify(printed ?? {})))`
  const paths = [resolveLockPath(cwd), ...more].flatMap((path) => ['-P', path])
  const log = `${cwd}.log`
  const strace = ['-f', '-qq', '-o', log, ...paths, '-e', `inject=${inject}`]
  const { stdout, stderr, status } = spawnSync('strace', [...strace, process.execPath, '-e', text], {
    encoding: 'utf8',
    timeout: 50_000,
  })
  assert.equal(status, 0, stderr)
  assert.match(readFileSync(log, 'utf8'), /\((INJECTED|DELAYED)\)/, inject)
  rmSync(log)
  return JSON.parse(stdout)
}

test(
  'without kernel locks a stale lock is not taken over',
  {
    skip: missing,
  },
  knownFailure(known, async (t) => {
    const cwd = directory(t)
    const printed = traced(
      cwd,
      'flock:error=ENOLCK',
      `const lock = await acquireLock(cwd)
     const refused = await acquireLock(cwd).catch(summary)
     await lock.release()
     return { refused, free: (await inspectLock(cwd)).state }`,
    )
    assert.equal((printed.refused as { code: string }).code, 'E_LOCK_CONTENTION')
    assert.equal(printed.free, 'free')

    const killed = await acquireLock(cwd)
    const record = JSON.parse(readFileSync(killed.path, 'utf8'))
    await killed.release()
    leave(cwd, { ...record, pid: deadPid() })
    const stale = traced(
      cwd,
      'flock:error=EOPNOTSUPP',
      `const error = await acquireLock(cwd).catch(summary)
     const command = [${JSON.stringify(bin)}, 'run', '--file', error.path, '--', 'true']
     const { stderr } = require('node:child_process').spawnSync(process.execPath, command, { encoding: 'utf8' })
     return { ...error, stderr, state: (await inspectLock(cwd)).state, broken: await breakLock(cwd) }`,
    )
    assert.deepEqual([stale.code, stale.state, stale.broken], ['E_LOCK_STALE', 'stale', true])
    assert.match(String(stale.message), /ended without releasing\).*no kernel locks.*break it$/)
    assert.equal(
      stale.stderr,
      `reconcile-lock: ${stale.message}: reconcile-lock break --file ${resolveLockPath(cwd)}\n`,
    )
    assert.equal(existsSync(resolveLockPath(cwd)), false)
  }),
)

for (const [call, error, syscall] of [
  ['open,openat', 'EMFILE', 'open'],
  ['flock', 'EIO', 'flock'],
  ['pwrite64', 'EDQUOT', 'write'],
] as const) {
  test(
    `acquireLock reports ${error} of ${syscall} and leaves no file`,
    {
      skip: missing,
    },
    knownFailure(known, (t) => {
      const cwd = directory(t)
      for (const form of ['await acquireLock(cwd)', 'acquireLockSync(cwd)']) {
        const printed = traced(
          cwd,
          `${call}:error=${error}`,
          `try { ${form} } catch (error) { return summary(error) }`,
        )
        assert.deepEqual([printed.code, printed.syscall], [error, syscall])
        assert.match(String(printed.message), new RegExp(`^${error}: .+, ${syscall} '`))
        assert.deepEqual(readdirSync(cwd), [])
      }
    }),
  )
}

test(
  'a slow disk does not block the event loop',
  { skip: missing },
  knownFailure(known, async (t) => {
    const cwd = directory(t)
    const printed = traced(
      cwd,
      'open,openat,unlink,unlinkat:delay_enter=400000',
      `let longest, last, acquired, released
     const tick = () => {
       const now = performance.now()
       longest = Math.max(longest, now - last)
       last = now
     }
     const round = async () => {
       const before = last = performance.now()
       longest = 0
       const timer = setInterval(tick, 5)
       const lock = await acquireLock(cwd)
       acquired = performance.now() - before
       await lock.release()
       released = performance.now() - before - acquired
       clearInterval(timer)
       tick()
       return longest
     }
     const rounds = []
     // An event loop that waits for the disk does so in each round.
     while (rounds.length < 5 && !rounds.some((time) => time < 150)) rounds.push(await round())
     return { rounds, acquired, released }`,
      [cwd],
    )
    const { rounds, acquired, released } = printed as { rounds: number[]; acquired: number; released: number }
    assert.ok(acquired >= 400 && released >= 400, `the disk was not slow: ${JSON.stringify(printed)}`)
    assert.ok(Math.min(...rounds) < 150, `the event loop was blocked: ${JSON.stringify(printed)}`)
    assert.equal((await inspectLock(cwd)).state, 'free')
    assert.equal(await breakLock(cwd), false)
  }),
)

type State = 'free' | 'stale' | 'long' | 'held' | 'own'

interface Operation {
  order: 'acquire' | 'durable' | 'release' | 'inspect' | 'break' | 'force'
  on: State
  /** The outcome if no call fails, or only one that does not matter. */
  normally: unknown
  /** The calls that must be seen at least: the test fails if the addon no longer makes one. */
  calls: string
  /** The call was refused there before. */
  again?: true
}

const CONTENTION = 'E_LOCK_CONTENTION'
const OPERATIONS: Operation[] = [
  { order: 'acquire', on: 'free', normally: {}, calls: 'open flock fstat write' },
  {
    order: 'acquire',
    on: 'stale',
    normally: { takenOver: 'dead' },
    calls: 'open open fstat flock lstat read write lstat',
  },
  {
    order: 'acquire',
    on: 'long',
    normally: { takenOver: 'dead' },
    calls: 'open open fstat flock lstat read ftruncate write lstat',
  },
  { order: 'durable', on: 'free', normally: {}, calls: 'open flock fstat write fdatasync open fsync' },
  {
    order: 'durable',
    on: 'stale',
    normally: { takenOver: 'dead' },
    calls: 'open open fstat flock lstat read write lstat fdatasync open fsync',
  },
  { order: 'acquire', on: 'held', normally: CONTENTION, calls: 'open open fstat flock fstat flock read' },
  { order: 'acquire', on: 'held', again: true, normally: CONTENTION, calls: 'open fstat flock read' },
  { order: 'release', on: 'own', normally: undefined, calls: 'fstat open lstat unlink' },
  { order: 'inspect', on: 'free', normally: 'free', calls: 'open' },
  { order: 'inspect', on: 'stale', normally: 'stale', calls: 'open fstat read flock flock lstat read' },
  { order: 'inspect', on: 'held', normally: 'held', calls: 'open fstat read read open read' },
  { order: 'break', on: 'stale', normally: true, calls: 'open fstat flock lstat read open lstat unlink' },
  { order: 'break', on: 'held', normally: CONTENTION, calls: 'open fstat flock flock read' },
  { order: 'force', on: 'held', normally: true, calls: 'lstat open lstat unlink' },
]

/** The errors that each manual page lists, and more that filesystems return. */
const ERRORS: Record<string, string> = {
  open: 'EACCES EBUSY EDQUOT EINTR EIO ELOOP EMFILE ENFILE ENODEV ENOMEM ENOSPC ENXIO EOVERFLOW EPERM EROFS ESTALE',
  flock: 'EACCES EBADF EINTR EINVAL EIO ENOLCK ENOMEM ENOSYS EOPNOTSUPP EPERM ESTALE',
  fstat: 'EACCES EIO ENOMEM EOVERFLOW ESTALE',
  lstat: 'EACCES EIO ELOOP ENOMEM EOVERFLOW ESTALE',
  read: 'EACCES EINTR EIO ENOMEM ESTALE',
  write: 'EACCES EAGAIN EDQUOT EFBIG EINTR EIO ENOMEM ENOSPC EPERM EROFS ESTALE',
  ftruncate: 'EACCES EFBIG EINTR EIO EPERM EROFS',
  fdatasync: 'EDQUOT EINTR EINVAL EIO ENOSPC EROFS',
  fsync: 'EDQUOT EINTR EINVAL EIO ENOSPC EROFS',
  fchmod: 'EIO EPERM EROFS',
  fstatfs: 'EACCES EINTR EIO ENOMEM ENOSYS',
  unlink: 'EACCES EBUSY EIO ENOMEM EPERM EROFS ESTALE',
}
const RETRIED = ['open', 'flock', 'read', 'write', 'ftruncate', 'fdatasync', 'fsync']
const DOES_NOT_MATTER = ['fstatfs', 'fchmod']
const NO_KERNEL_LOCKS = ['EINVAL', 'ENOLCK', 'ENOSYS', 'EOPNOTSUPP']

type Directories = { sync: string; async: string }

/** Brings a lock into a state, by this process, which is not traced; returns a check of that state. */
async function bring(cwd: string, state: State, dead: number): Promise<(removed?: boolean) => Promise<void>> {
  const lock = await acquireLock(cwd)
  const record = readFileSync(lock.path, 'utf8')
  if (state === 'held') {
    return async (removed) => {
      if (removed) return assert.equal((await rejection(lock.release())).code, 'E_LOCK_LOST')
      assert.equal(readFileSync(lock.path, 'utf8'), record, 'the held file has changed')
      assert.equal((await rejection(acquireLock(cwd))).code, CONTENTION)
      await lock.release()
    }
  }
  await lock.release()
  const stale = record
    .trimEnd()
    .replace(/"pid":\d+/, `"pid":${dead}`)
    .replace(/,"file":"[^"]*"/, '')
  const left = state === 'long' ? stale.padEnd(700) : stale
  if (state === 'stale' || state === 'long') leave(cwd, left)
  return async () => {
    if (state === 'free') assert.deepEqual(readdirSync(cwd), [], 'a file was left')
    else if (state === 'own') assertCut(lock.path)
    else assert.equal(readFileSync(lock.path, 'utf8').trimEnd(), stale, 'the stale file has changed')
  }
}

/** Fewer are not a leak: at the first count Node.js may not have closed each file from which it has loaded a module. */
const assertNoLeak = (after: number, before: number) =>
  assert.ok(after <= before, `a descriptor was leaked: ${after} are open after ${before}`)

/** Asserts that the record was cut. */
const assertCut = (path: string) => assert.equal(statSync(path).size, 1, 'the record is still there')

/** This process acquires and releases without a wait; returns the reason of a take-over. */
function acquireNext(cwd: string): string | undefined {
  const before = performance.now()
  const lock = acquireLockSync(cwd)
  const took = performance.now() - before
  lock.releaseSync()
  // The creation grace period is 2 s.
  assert.ok(took < 1000, `the next acquire took ${took} ms`)
  return lock.takenOver?.reason
}

for (const { order, on, normally, calls, again } of OPERATIONS) {
  test(
    `${order} (${on} lock${again ? ' again' : ''}) handles each system call error`,
    {
      skip: unattachable,
    },
    knownFailure(known, async (t) => {
      const { subject, directories, all } = dissect(t)
      const dead = deadPid()
      const usual = (outcome: Outcome) =>
        outcome.error?.code ??
        JSON.parse(JSON.stringify(outcome.value ?? null).replaceAll(String(dead), '"dead"'))

      /** Runs the operation once in each form, checks everything, and returns the calls that it made. */
      async function attempt(
        injection: string | undefined,
        at: Site | undefined,
        error = '',
      ): Promise<Traced> {
        if (order === 'acquire' && on === 'held') {
          // Forgets an earlier refusal.
          await subject.order('hold')
          await subject.order('settle')
        }
        const intact = {
          sync: await bring(directories.sync, on, dead),
          async: await bring(directories.async, on, dead),
        }
        if (again) await subject.order('acquire')
        const before = await subject.descriptors('count')
        if (on === 'own') await subject.order('hold')
        const traced = await subject.traced(order, injection === undefined ? [] : [injection])
        // The record is read once more for the command line and the user of the holder, which may be missing.
        const isDetail =
          order === 'inspect' && on === 'held' && at?.nth === { open: 2, read: 3 }[at?.syscall ?? '']
        // The close that follows releases it, too.
        const isUnlock = order === 'inspect' && at?.syscall === 'flock' && at.nth === 2
        const matters = at !== undefined && !isDetail && !isUnlock && !DOES_NOT_MATTER.includes(at.syscall)
        const bare = at?.syscall === 'flock' && NO_KERNEL_LOCKS.includes(error)
        const isRetried = matters && error === 'EINTR' && RETRIED.includes(at.syscall)
        // Without the permission for O_NOATIME, it opens the file again.
        const isAskedAgain = matters && error === 'EPERM' && order === 'inspect' && at.syscall === 'open'
        // The mode of a young file may already be set, and a missing one was released.
        const isRepeated =
          at?.syscall === 'open' &&
          ['EACCES', 'EPERM'].includes(error) &&
          (on === 'held' || order === 'inspect') &&
          on !== 'stale' &&
          (order !== 'acquire' || at.nth === 2)
        const isOfSync = order === 'durable' && at?.syscall === 'open' && at.nth === (on === 'stale' ? 3 : 2)
        // Another client of NFS has removed the file.
        const isVanished = error === 'ESTALE' && order !== 'release' && !isOfSync
        const isNamedByPath = at?.isOfDirectory === true
        const isReleasedInPlace =
          at?.syscall === 'unlink' &&
          (order === 'release' || order === 'break') &&
          ['EACCES', 'EBUSY', 'EPERM'].includes(error)
        const acquires = order === 'acquire' || order === 'durable'
        // It only checks that the descriptor is still the lock's.
        const isOwnDescriptor = at?.syscall === 'fstat' && order === 'release'
        // An attempt to acquire follows.
        const isAttempted = again && injection?.includes('when')
        const fails =
          matters &&
          !isAttempted &&
          !isOwnDescriptor &&
          !bare &&
          !isRetried &&
          !isAskedAgain &&
          !isRepeated &&
          !isVanished &&
          !isNamedByPath &&
          !isReleasedInPlace
        for (const form of ['sync', 'async'] as const) {
          const cwd = directories[form]
          const outcome = traced.report[form]
          if (outcome === undefined || outcome.skipped) {
            await intact[form]()
            acquireNext(cwd)
            continue
          }
          if (at) assert.ok(traced.injected[form] > 0, `${form}: no call was made to fail`)
          const path = resolveLockPath(cwd)
          if (fails) {
            const errno = -(constants.errno[error as keyof typeof constants.errno] ?? 0)
            assertSystemError(outcome, { code: error, errno, syscall: at.syscall, path }, form)
          } else if (bare && acquires && (on === 'stale' || on === 'long')) {
            assert.equal(outcome.error?.code, 'E_LOCK_STALE', form)
          } else {
            assert.deepEqual(usual(outcome), normally ?? null, form)
          }
          // The identity of the created file stays unknown, so it is not removed.
          const isUnidentified = on === 'free' && at?.syscall === 'fstat' && !injection?.includes('when')
          const emptied = fails && acquires && isUnidentified
          if (emptied) assertCut(path)
          else if (outcome.error || order === 'inspect') await intact[form]()
          else if (on === 'held') await intact[form](true)
        }
        assertNoLeak(await subject.descriptors('settle'), before)
        for (const cwd of all) {
          const found = existsSync(resolveLockPath(cwd)) ? statSync(resolveLockPath(cwd)).size : undefined
          const reason = acquireNext(cwd)
          if (found === undefined || isReleasedInPlace) assert.equal(reason, undefined)
          else if (found === 1) assert.match(String(reason), /the file did not contain a lock record/)
          else assert.match(String(reason), new RegExp(`process ${dead} ended`))
        }
        return traced
      }

      const { sites } = await attempt(undefined, undefined)
      const seen = sites.async.map((site) => site.syscall)
      for (const syscall of new Set(calls.split(' '))) {
        const wanted = calls.split(' ').filter((call) => call === syscall).length
        assert.ok(seen.filter((call) => call === syscall).length >= wanted, `${syscall} in ${seen.join(' ')}`)
      }
      if (again) assert.equal(seen.join(' '), calls)
      if (order !== 'break' && order !== 'force') assert.deepEqual(sites.sync, sites.async)
      let cases = 0
      for (const site of sites.async) {
        const errors = ERRORS[site.syscall]
        assert.ok(errors, `no errors are known of ${site.syscall}`)
        const checked = async (injection: string, error: string) => {
          await attempt(injection, site, error).catch((reason) => {
            throw new Error(`${site.syscall}, ${injection}: ${(reason as Error).message}`, { cause: reason })
          })
          cases += 1
        }
        for (const error of errors.split(' '))
          await checked(`${site.call}:error=${error}:when=${site.nth}`, error)
        // The clean-up meets the same failure.
        if (site.nth === 1) await checked(`${site.call}:error=EIO`, 'EIO')
      }
      t.diagnostic(`${cases} cases`)
    }),
  )
}

/** A traced process, and the directories of its two calls. */
function dissect(t: TestContext): { subject: Subject; directories: Directories; all: string[] } {
  const root = directory(t)
  const directories: Directories = { sync: join(root, 'sync'), async: join(root, 'async') }
  const all = Object.values(directories)
  for (const cwd of all) mkdirSync(cwd)
  return { subject: new Subject(t, directories, join(root, 'log')), directories, all }
}

const code = ({ report }: Pick<Traced, 'report'>) => [report.sync?.error?.code, report.async?.error?.code]
const UNLINK = 'unlink,unlinkat:error=EIO'

for (const [syscall, injection] of [
  ['flock', 'flock:error=EIO'],
  ['fstat', 'fstat,statx:error=EIO'],
  ['write', 'write,pwrite64:error=EIO'],
] as const) {
  test(
    `a failed ${syscall} without unlink does not block others`,
    {
      skip: unattachable,
    },
    knownFailure(known, async (t) => {
      const { subject, all } = dissect(t)
      assert.deepEqual(code(await subject.traced('acquire', [injection, UNLINK])), ['EIO', 'EIO'])
      for (const cwd of all) {
        assert.equal(statSync(resolveLockPath(cwd)).size, 1)
        assert.match(String(acquireNext(cwd)), /not contain a lock record/)
      }
    }),
  )

  test(
    `a failed ${syscall} without clean-up blocks others for 2 s`,
    {
      skip: unattachable,
    },
    knownFailure(known, async (t) => {
      const { subject, all } = dissect(t)
      const injections = [injection, UNLINK, 'ftruncate:error=EIO']
      assert.deepEqual(code(await subject.traced('acquire', injections)), ['EIO', 'EIO'])
      await Promise.all(
        all.map(async (cwd) => {
          const { size, mtimeMs } = statSync(resolveLockPath(cwd))
          assert.equal(size, 0)
          const lock = await acquireLock(cwd)
          const age = Date.now() - mtimeMs
          assert.match(String(lock.takenOver?.reason), /the file was empty/)
          assert.ok(age > 1900, `it was taken over after ${age} ms`)
          await lock.release()
        }),
      )
    }),
  )
}

for (const [what, order, injections] of [
  ['a failed release', 'release', [UNLINK, 'ftruncate:error=EIO']],
  ['a failed take-over', 'acquire', ['lstat,newfstatat:error=EIO:when=2', 'ftruncate:error=EIO']],
] as const) {
  test(
    `${what} without clean-up blocks others until exit`,
    {
      skip: unattachable,
    },
    knownFailure(known, async (t) => {
      const { subject, all } = dissect(t)
      if (order === 'release') await subject.order('hold')
      else for (const cwd of all) await bring(cwd, 'stale', deadPid())
      const before = await subject.descriptors('count')
      assert.deepEqual(code(await subject.traced(order, [...injections])), ['EIO', 'EIO'])
      const held = order === 'release' ? 2 : 0
      assertNoLeak(await subject.descriptors('settle'), before - held)
      for (const cwd of all) {
        const refused = await rejection(acquireLock(cwd))
        assert.deepEqual(
          [refused.code, (refused.holder as { pid: number }).pid],
          [CONTENTION, subject.child.pid],
        )
      }
      const ended = once(subject.child, 'exit')
      subject.child.kill('SIGKILL')
      await ended
      for (const cwd of all) assert.match(String(acquireNext(cwd)), /ended without releasing/)
    }),
  )
}

/** Types of filesystems in `linux/magic.h`, as the bytes of a word. */
const [SMB2, NFS] = ['424d53fe00000000', '6969000000000000']

for (const [error, expected] of [
  ['EINTR', undefined],
  ['EINVAL', undefined],
  ['EIO', 'EIO'],
] as const) {
  test(
    `acquireLock on NFS flushes its record: ${error}`,
    { skip: unattachable },
    knownFailure(known, async (t) => {
      const { subject, all } = dissect(t)
      const failing = `fsync:error=${error}${expected === undefined ? ':when=1' : ''}`
      const traced = await subject.traced('acquire', [`fstatfs:poke_exit=@arg2=${NFS}`, failing])
      assert.deepEqual(code(traced), [expected, expected])
      assert.ok(traced.injected.sync > 0 && traced.injected.async > 0, 'each record is flushed')
      if (expected !== undefined) for (const cwd of all) assert.deepEqual(readdirSync(cwd), [])
    }),
  )
}

test(
  'a stale lock of another NFS client is taken over',
  { skip: unattachable },
  knownFailure(known, async (t) => {
    const { subject, all } = dissect(t)
    for (const cwd of all) {
      const lock = acquireLockSync(cwd)
      const record = JSON.parse(readFileSync(lock.path, 'utf8'))
      lock.releaseSync()
      // As text, because an object would get the number of the file.
      leave(cwd, JSON.stringify({ ...record, pidNs: 1, fs: 'shared', file: '1:1' }))
      assert.equal(
        (await rejection(acquireLock(cwd))).code,
        CONTENTION,
        'the kernel lock may be of one mount',
      )
    }
    const { report } = await subject.traced('acquire', [`fstatfs:poke_exit=@arg2=${NFS}`])
    const from = { takenOver: process.pid }
    assert.deepEqual([report.sync?.value, report.async?.value], [from, from])
  }),
)

test(
  'a kernel lock of SMB, which denies reads, is contention',
  { skip: unattachable },
  knownFailure(known, async (t) => {
    const { subject, all } = dissect(t)
    const intact = await Promise.all(all.map((cwd) => bring(cwd, 'held', 0)))
    const smb = [`fstatfs:poke_exit=@arg2=${SMB2}`, 'flock,pread64:error=EACCES']
    assert.deepEqual(code(await subject.traced('acquire', smb)), [CONTENTION, CONTENTION])
    const { report } = await subject.traced('inspect', smb)
    assert.deepEqual([report.sync?.value, report.async?.value], ['held', 'held'])
    for (const check of intact) await check()
  }),
)

test(
  'a release whose unlink finds no file is a loss',
  { skip: unattachable },
  knownFailure(known, async (t) => {
    const { subject, all } = dissect(t)
    await subject.order('hold')
    const lost = await subject.traced('release', ['unlink,unlinkat:error=ENOENT'])
    assert.deepEqual(code(lost), ['E_LOCK_LOST', 'E_LOCK_LOST'])
    for (const cwd of all) assert.equal(acquireNext(cwd), undefined)
  }),
)

test(
  'an empty write is EIO and leaves no file',
  { skip: unattachable },
  knownFailure(known, async (t) => {
    const { subject, all } = dissect(t)
    assert.deepEqual(code(await subject.traced('acquire', ['write,pwrite64:retval=0'])), ['EIO', 'EIO'])
    for (const cwd of all) {
      assert.deepEqual(readdirSync(cwd), [])
      assert.equal(acquireNext(cwd), undefined)
    }
  }),
)

test(
  'release and acquire leave no file without new threads',
  {
    skip: unattachable,
  },
  knownFailure(known, async (t) => {
    for (const order of ['release', 'acquire'] as const) {
      const { subject, directories } = dissect(t)
      // Node.js needs threads for its start.
      await subject.order('count')
      if (order === 'release') await subject.order('hold')
      const { report, injected } = await subject.traced(order, ['clone,clone3:error=EAGAIN'], 'clone,clone3')
      assert.ok(injected.sync > 0, 'no clone was made to fail')
      assert.deepEqual(code({ report }), [undefined, undefined])
      if (order === 'acquire') await subject.order('settle')
      assert.deepEqual(readdirSync(directories.async), [])
      assert.equal(acquireNext(directories.async), undefined)
    }
  }),
)

test(
  'an interrupted fstatfs is repeated',
  { skip: unattachable },
  knownFailure(known, async (t) => {
    const { subject, directories } = dissect(t)
    const filesystem = (path: string) => JSON.parse(readFileSync(path, 'utf8')).fs
    const { injected } = await subject.traced('hold', ['fstatfs:error=EINTR:when=1'])
    assert.ok(injected.sync > 0, 'no fstatfs was interrupted')
    const usual = acquireLockSync(directory(t))
    assert.equal(filesystem(resolveLockPath(directories.sync)), filesystem(usual.path))
    usual.releaseSync()
  }),
)

test(
  'an interrupted unlock is repeated',
  { skip: missing },
  knownFailure(known, (t) => {
    const home = directory(t)
    const [cwd, moved] = [join(home, 'a'), join(home, 'b')]
    mkdirSync(cwd)
    // The child has inherited the kernel lock, which the release ends.
    const printed = traced(
      cwd,
      'flock:error=EINTR:when=2',
      `const held = acquireLockSync(cwd)
       const descriptor = held[Symbol.for('reconcile-lock.descriptor')]()
       const stdio = ['ignore', 'ignore', 'ignore', descriptor]
       const child = require('node:child_process').spawn('sleep', ['60'], { stdio })
       require('node:fs').renameSync(cwd, ${JSON.stringify(moved)})
       const codes = [() => held.releaseSync(), () => acquireLockSync(${JSON.stringify(moved)})].map((call) => {
         try { call() } catch ({ code }) { return code }
       })
       child.kill()
       return { codes }`,
      [resolveLockPath(moved)],
    )
    assert.deepEqual(printed.codes, ['E_LOCK_LOST', null])
  }),
)

test(
  'an interrupted fchmod is repeated',
  { skip: missing },
  knownFailure(known, (t) => {
    const cwd = directory(t)
    const printed = traced(
      cwd,
      'fchmod:error=EINTR:when=1',
      `process.umask(0o077)
       const { path } = acquireLockSync({ cwd, mode: 0o666 })
       return { mode: require('node:fs').statSync(path).mode & 0o777 }`,
    )
    assert.equal(printed.mode, 0o666)
  }),
)

test(
  'an exit leaves no file without new threads',
  { skip: unattachable },
  knownFailure(known, async (t) => {
    const cwd = directory(t)
    const exits = "process.on('SIGUSR2', () => process.exit())"
    const body = `lock.acquireLockSync(cwd); ${exits}; setInterval(() => {}, 1000); console.log('held')`
    const [child] = await begun(t, cwd, body)
    const inject = ['-e', 'trace=clone,clone3', '-e', 'inject=clone,clone3:error=EAGAIN']
    const detach = await attach(child.pid, ['-f', '-o', '/dev/null', ...inject])
    const exited = once(child, 'exit')
    child.kill('SIGUSR2')
    await exited
    await detach()
    assert.deepEqual(readdirSync(cwd), [])
  }),
)

test(
  'a failed thread creation does not block the event loop',
  { skip: unattachable },
  knownFailure(known, async (t) => {
    const body = `process.on('SIGUSR2', async () => {
      const began = performance.now()
      // One thread hangs in the first call, and there is none for the second one.
      const calls = ['a', 'b'].map((file) => lock.acquireLock({ cwd, file }))
      await new Promise((resolve) => setTimeout(resolve, 1))
      const blocked = performance.now() - began
      await Promise.all(calls)
      console.log(JSON.stringify([blocked, performance.now() - began]))
    })
    setInterval(() => {}, 1000)
    console.log('ready')`
    const [child] = await begun(t, directory(t), body)
    // Each thread has its own count.
    const inject = ['inject=clone,clone3:error=EAGAIN:when=2+', 'inject=flock:delay_enter=1000000:when=1']
    const detach = await attach(child.pid, ['-f', '-o', '/dev/null', ...inject.flatMap((it) => ['-e', it])])
    child.kill('SIGUSR2')
    const [line] = await once(child.stdout as Readable, 'data')
    await detach()
    const [blocked, answered] = JSON.parse(String(line)) as [number, number]
    assert.ok(blocked < 500 && answered > 1000, `blocked for ${blocked} of ${answered} ms`)
  }),
)

const unlimited = spawnSync('prlimit', ['--version']).status !== 0 && 'prlimit is not installed'

for (const on of ['free', 'stale'] as const) {
  test(
    `partial writes to a ${on} lock do not block others`,
    { skip: unlimited },
    knownFailure(known, async (t) => {
      for (const size of [1, 100, 300, 400, 511]) {
        const what = `after ${size} bytes`
        const { subject, all } = dissect(t)
        for (const cwd of all) await bring(cwd, on, deadPid())
        // Only the soft limit, which needs no privilege. Node.js ignores the signal.
        const limit = ['--pid', String(subject.child.pid), `--fsize=${size}:`]
        assert.equal(spawnSync('prlimit', limit).status, 0, what)
        assert.deepEqual(code({ report: await subject.order('acquire') }), ['EFBIG', 'EFBIG'], what)
        for (const cwd of all) {
          if (on === 'free') assert.deepEqual(readdirSync(cwd), [], what)
          assert.equal(acquireNext(cwd) === undefined, on === 'free', what)
        }
        subject.child.kill('SIGKILL')
      }
    }),
  )
}
