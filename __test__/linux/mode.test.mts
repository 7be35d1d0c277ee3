// Several users with one lock: the option `mode`, with two users that are not root.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLockSync, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { type Answer, type Command, Peer } from '../support/child.mjs'
import { cli, publicProgram, waits } from '../support/cli.mjs'
import { directory } from '../support/directory.mjs'
import { attach, cannotAttach } from '../support/strace.mjs'
import { until } from '../support/time.mjs'

const [ONE, TWO, GROUP] = [65534, 65533, 65532]
const skip = process.getuid?.() !== 0 && 'only root can act as other users'

const kinds = {
  'a directory like /tmp': { bits: 0o1777, mode: 0o666 },
  'a directory of all': { bits: 0o777, mode: 0o666 },
  'a group directory': { bits: 0o2775, mode: 0o660 },
}

/** Two users in one group, whose umask takes all rights from others. */
function users(t: TestContext, bits: number, mode: number) {
  const cwd = directory(t)
  chownSync(cwd, 0, GROUP)
  chmodSync(cwd, bits)
  t.diagnostic(`fs.protected_regular is ${readFileSync('/proc/sys/fs/protected_regular', 'utf8').trim()}`)
  const user = (uid: number) => {
    const peer = new Peer(t, { uid, gid: GROUP, umask: 0o077 })
    const ask = (what: Command['do'], timeout = 0, more: Command['options'] = {}) =>
      peer.ask({ do: what, cwd, options: { mode, timeout, ...more } })
    return { peer, ask, pid: peer.child.pid }
  }
  return { cwd, path: resolveLockPath(cwd), user, one: user(ONE), two: user(TWO) }
}

const stateOf = ({ value }: Answer) => (value as { state: string }).state
const takenFrom = ({ ok, message, value }: Answer) => {
  assert.ok(ok, message)
  return (value as { holder?: { pid: number } } | undefined)?.holder?.pid
}

for (const [where, { bits, mode }] of Object.entries(kinds)) {
  test(`the umask does not matter in ${where}`, { skip }, async (t) => {
    const { path, one, two } = users(t, bits, mode)
    takenFrom(await one.ask('acquire'))
    const { uid, mode: actual } = statSync(path)
    assert.deepEqual([uid, actual & 0o7777], [ONE, mode])
    const { code, holder } = await two.ask('acquire')
    assert.deepEqual([code, holder?.pid], ['E_LOCK_CONTENTION', one.pid])
    assert.equal(stateOf(await two.ask('inspect')), 'held')
    assert.equal((await two.ask('break')).code, 'E_LOCK_CONTENTION')
  })

  test(`another user waits in ${where}`, { skip }, async (t) => {
    const { one, two } = users(t, bits, mode)
    for (const [holder, waiter] of [
      [one, two],
      [two, one],
    ] as const) {
      takenFrom(await holder.ask('acquire'))
      const waiting = waiter.ask('acquire', 30_000)
      await until(() => waits(waiter.pid), 'the other user waits')
      assert.equal((await holder.ask('release')).ok, true)
      assert.equal(takenFrom(await waiting), undefined)
      assert.equal((await waiter.ask('release')).ok, true)
      assert.equal(stateOf(await holder.ask('inspect')), 'free')
    }
  })

  test(`another user takes over in ${where}`, { skip }, async (t) => {
    const { path, user, one, two } = users(t, bits, mode)
    takenFrom(await one.ask('acquire'))
    await one.peer.ends('SIGKILL')
    assert.equal(stateOf(await two.ask('inspect')), 'stale')
    assert.equal(takenFrom(await two.ask('acquire')), one.pid)
    assert.deepEqual([statSync(path).uid, statSync(path).mode & 0o7777], [ONE, mode])
    assert.equal((await two.ask('release')).ok, true)
    const again = user(ONE)
    assert.equal(takenFrom(await again.ask('acquire')), undefined)
    assert.equal((await again.ask('release')).ok, true)
    assert.equal(stateOf(await two.ask('inspect')), 'free')
  })

  test(`two users share the lock in ${where}`, { skip }, async (t) => {
    const { path, user, one, two } = users(t, bits, mode)
    const shared = { shared: true, legacy: false }
    for (const [first, second, third] of [
      [one, two, user(ONE)],
      [two, one, user(TWO)],
    ] as const) {
      for (const reader of [first, second]) takenFrom(await reader.ask('acquire', 0, shared))
      assert.equal(statSync(`${path}.readers`).mode & 0o7777, mode)
      assert.equal((await first.ask('acquire')).code, 'E_LOCK_CONTENTION')
      const owner = third.ask('acquire', 30_000)
      await until(() => waits(third.pid), 'the owner waits')
      for (const reader of [first, second]) assert.equal((await reader.ask('release')).ok, true)
      assert.equal(takenFrom(await owner), undefined)
      assert.equal((await first.ask('acquire', 0, shared)).code, 'E_LOCK_CONTENTION')
      assert.equal((await third.ask('release')).ok, true)
    }
  })

  test(`another user breaks in ${where}`, { skip }, async (t) => {
    const { one, two } = users(t, bits, mode)
    takenFrom(await one.ask('acquire'))
    await one.peer.ends('SIGKILL')
    assert.equal((await two.ask('break')).value, true)
    assert.equal(stateOf(await two.ask('inspect')), 'free')
  })
}

test('an open denied before the mode was set is repeated', { skip }, async (t) => {
  const unable = await cannotAttach()
  if (unable) return t.skip(unable)
  const { path, one, two } = users(t, 0o777, 0o666)
  takenFrom(await one.ask('acquire'))
  // The state before the creator has set the mode. The check of the file comes after it.
  chmodSync(path, 0o600)
  const log = join(directory(t), 'log')
  const stat = '?lstat,?newfstatat,?statx'
  const slow = ['-e', `inject=${stat}:delay_enter=600000:when=1`]
  const options = ['-f', '-o', log, '-P', path, '-e', `trace=?open,openat,${stat}`, ...slow]
  const detach = await attach(two.pid, options)
  t.after(() => detach('SIGKILL'))
  const answer = two.ask('acquire')
  await until(() => readFileSync(log, 'utf8').includes('EACCES'), 'the open is denied')
  chmodSync(path, 0o666)
  const { code, holder } = await answer
  assert.deepEqual([code, holder?.pid], ['E_LOCK_CONTENTION', one.pid])
})

test('a mode without other users refuses their files', { skip }, async (t) => {
  const { cwd, one, two } = users(t, 0o1777, 0o666)
  takenFrom(await one.ask('acquire'))
  for (const mode of [undefined, 0o600, 0o644] as const) {
    const options = mode === undefined ? {} : { mode }
    for (const what of ['acquire', 'inspect', 'break'] as const)
      assert.equal((await two.peer.ask({ do: what, cwd, options })).code, 'E_LOCK_NOT_A_FILE')
  }
})

test('the owner sets the mode when it takes over', { skip }, async (t) => {
  const { path, cwd, user, one } = users(t, 0o777, 0o666)
  takenFrom(await one.peer.acquire(cwd))
  assert.equal(statSync(path).mode & 0o7777, 0o600)
  await one.peer.ends('SIGKILL')
  const next = user(ONE)
  assert.equal(takenFrom(await next.ask('acquire')), one.pid)
  assert.equal(statSync(path).mode & 0o7777, 0o666)
})

test('an empty file without its mode belongs to its owner', { skip }, async (t) => {
  const { path, one, two } = users(t, 0o777, 0o666)
  // The state after a process was killed before it set the mode.
  writeFileSync(path, '', { mode: 0o600 })
  utimesSync(path, 0, 0)
  chownSync(path, ONE, GROUP)
  assert.equal((await two.ask('acquire')).code, 'EACCES')
  takenFrom(await one.ask('acquire'))
  assert.equal(statSync(path).mode & 0o7777, 0o666)
  assert.equal((await two.ask('acquire')).code, 'E_LOCK_CONTENTION')
})

test('run, status and break take --mode', { skip }, (t) => {
  const { cwd, path } = users(t, 0o1777, 0o666)
  const as = (uid: number, ...args: string[]) => {
    const words = ['--reuid', uid, '--regid', uid, '--clear-groups', ...publicProgram(), ...args].map(String)
    const { status, stdout, stderr } = spawnSync('setpriv', words, { cwd, encoding: 'utf8' })
    return { status, stdout, stderr }
  }
  const stat = as(ONE, 'run', '--mode', '666', '--', 'stat', '-c', '%a', path)
  assert.deepEqual(stat, { status: 0, stdout: '666\n', stderr: '' })
  const lock = acquireLockSync({ cwd, mode: 0o666 })
  chownSync(path, ONE, ONE)
  assert.match(as(TWO, 'status', '--mode', '666').stdout, /: held/)
  assert.match(as(TWO, 'status').stderr, /a file of another user in a directory with the sticky bit/)
  assert.match(as(TWO, 'break', '--mode', '0666').stderr, /in progress/)
  assert.match(as(TWO, 'run', '--mode', '666', '--', 'true').stderr, /in progress/)
  assert.equal(inspectLockSync({ cwd, mode: 0o666 }).state, 'held')
  lock.releaseSync()
  for (const mode of ['6', '777', '0', '066', '060', '888', '0o660', '1666', ''])
    assert.deepEqual(cli(cwd, ['status', '--mode', mode]), {
      code: 64,
      signal: null,
      stdout: '',
      stderr: [
        'reconcile-lock: --mode: expected an octal mode from 600 to 666 without execute bits',
        'reconcile-lock --help shows the usage\n',
      ].join('\n'),
    })
})
