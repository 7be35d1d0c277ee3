// Two users, root and nobody (uid 65534), with one lock. Without permission, a call changes no file.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { resolveLockPath } from 'reconcile-lock'
import { type Answer, Peer } from '../support/child.mjs'
import { waits } from '../support/cli.mjs'
import { deadPid, directory, leave, MESSAGE, readRecord } from '../support/directory.mjs'
import { until } from '../support/time.mjs'

const NOBODY = 65534
const isRoot = process.getuid?.() === 0
const skip = !isRoot && 'only root can act as another user'

/** Like /tmp, writable by all users, and writable by root only. */
const MODES = [0o1777, 0o777, 0o755]
const writable = (mode: number) => (mode & 0o002) !== 0
const octal = (mode: number) => mode.toString(8).padStart(4, '0')

function place(t: TestContext, mode: number) {
  const cwd = directory(t)
  chmodSync(cwd, mode)
  return { cwd, path: resolveLockPath(cwd), root: new Peer(t), nobody: new Peer(t, { uid: NOBODY }) }
}

/** Asserts an error with the message of `node:fs`, which names the file. */
function assertDenied(answer: Answer, path: string, code = 'EACCES', syscall = 'open'): void {
  const text = code === 'EACCES' ? 'permission denied' : 'operation not permitted'
  const { message, ...rest } = answer
  assert.deepEqual(rest, { ok: false, name: 'Error', code, syscall, path })
  // If the file cannot be opened, the message names its owner.
  const owner = syscall === 'open' ? /; the (?:file|directory) belongs to user 0, and this process/ : /'$/
  assert.ok(message?.startsWith(`${code}: ${text}, ${syscall} '${path}'`), message)
  assert.match(message ?? '', owner)
  if (message?.includes('with force'))
    assert.match(message, /; if no process uses the lock, /, 'it may be held')
}

function assertRefused(answer: Answer, pid: number | undefined): void {
  const { ok, name, code, message, holder } = answer
  assert.deepEqual([ok, name, code, message], [false, 'LockError', 'E_LOCK_CONTENTION', MESSAGE])
  assert.equal(holder?.pid, pid)
}

function assertAcquired(answer: Answer, takenOverFrom?: number): void {
  assert.equal(answer.ok, true, answer.message)
  const from = answer.value as { holder?: { pid: number } } | undefined
  assert.equal(from?.holder?.pid, takenOverFrom)
}

function assertStays(path: string, content: string, uid = 0): void {
  assert.equal(readFileSync(path, 'utf8'), content)
  assert.equal(statSync(path).uid, uid)
}

for (const mode of MODES) {
  test(`${octal(mode)}: another user is denied a lock of root`, { skip }, async (t) => {
    const { cwd, path, root, nobody } = place(t, mode)
    assertAcquired(await root.acquire(cwd))
    const record = readFileSync(path, 'utf8')
    for (const what of ['acquire', 'inspect', 'break'] as const) {
      assertDenied(await nobody.ask({ do: what, cwd }), path)
      assertStays(path, record)
    }
    assert.equal((await nobody.ask({ do: 'release', cwd })).ok, true, 'it has no lock to release')
    assertStays(path, record)
    // `force` needs only the permission to unlink.
    const forced = await nobody.ask({ do: 'force', cwd })
    if (mode === 0o777) {
      assert.equal(forced.value, true)
      assert.equal((await root.ask({ do: 'release', cwd })).code, 'E_LOCK_LOST')
    } else {
      assertDenied(forced, path, mode === 0o1777 ? 'EPERM' : 'EACCES', 'unlink')
      assert.equal((await root.ask({ do: 'release', cwd })).ok, true, 'root still held it')
    }
    if (writable(mode)) assertAcquired(await nobody.acquire(cwd))
    else assertDenied(await nobody.acquire(cwd), path)
    assert.equal(existsSync(path), writable(mode))
  })

  test(`${octal(mode)}: another user does not take over from root`, { skip }, async (t) => {
    const { cwd, path, root, nobody } = place(t, mode)
    assertAcquired(await root.acquire(cwd))
    await root.ends('SIGKILL')
    const record = readFileSync(path, 'utf8')
    for (const what of ['acquire', 'inspect', 'break'] as const) {
      assertDenied(await nobody.ask({ do: what, cwd }), path)
      assertStays(path, record)
    }
    const next = new Peer(t)
    assertAcquired(await next.acquire(cwd), root.child.pid)
  })
}

test('1777: a file of another user is refused', { skip }, async (t) => {
  for (const state of ['held', 'stale']) {
    const { cwd, path, root, nobody } = place(t, 0o1777)
    assertAcquired(await nobody.acquire(cwd))
    if (state === 'stale') await nobody.ends('SIGKILL')
    const record = readFileSync(path, 'utf8')
    for (const what of ['acquire', 'inspect', 'break'] as const) {
      const { ok, code, message } = await root.ask({ do: what, cwd })
      assert.deepEqual([ok, code], [false, 'E_LOCK_NOT_A_FILE'])
      assert.match(message ?? '', /a file of another user in a directory with the sticky bit/)
      assertStays(path, record, NOBODY)
    }
    assert.equal((await root.ask({ do: 'force', cwd })).value, true)
    assertAcquired(await root.acquire(cwd))
  }
})

test('1777: a file of root or the owner is accepted', { skip }, async (t) => {
  for (const [owner, ofDirectory] of [
    [0, 0],
    [0, NOBODY - 1],
    [NOBODY - 1, NOBODY - 1],
  ] as const) {
    const { cwd, path, nobody, root } = place(t, 0o1777)
    chownSync(cwd, ofDirectory, ofDirectory)
    leave(cwd, { pid: deadPid(), createdAt: 1 })
    chmodSync(path, 0o666)
    chownSync(path, owner, owner)
    assert.equal(((await nobody.ask({ do: 'inspect', cwd })).value as { state: string }).state, 'stale')
    assert.equal(((await root.ask({ do: 'inspect', cwd })).value as { state: string }).state, 'stale')
  }
})

test('1777: a user takes over its own file', { skip }, async (t) => {
  const { cwd, nobody } = place(t, 0o1777)
  assertAcquired(await nobody.acquire(cwd))
  const next = new Peer(t, { uid: NOBODY })
  assertRefused(await next.acquire(cwd), nobody.child.pid)
  await nobody.ends('SIGKILL')
  assertAcquired(await next.acquire(cwd), nobody.child.pid)
})

test('1755: a file of another user is accepted', { skip }, async (t) => {
  const { cwd, path, root } = place(t, 0o1755)
  const pid = deadPid()
  leave(cwd, { pid, createdAt: 1 })
  // Only root can have put it there.
  chownSync(path, NOBODY, NOBODY)
  assertAcquired(await root.acquire(cwd), pid)
})

for (const mode of [0o777]) {
  test(`${octal(mode)}: root is refused a lock of another user`, { skip }, async (t) => {
    const { cwd, path, root, nobody } = place(t, mode)
    t.diagnostic(`fs.protected_regular is ${readFileSync('/proc/sys/fs/protected_regular', 'utf8').trim()}`)
    assertAcquired(await nobody.acquire(cwd))
    const record = readFileSync(path, 'utf8')
    assertRefused(await root.acquire(cwd), nobody.child.pid)
    assertRefused(await root.ask({ do: 'break', cwd }), nobody.child.pid)
    const { state } = (await root.ask({ do: 'inspect', cwd })).value as { state: string }
    assert.equal(state, 'held')
    assertStays(path, record, NOBODY)
    assert.equal((await nobody.ask({ do: 'release', cwd })).ok, true)
    assertAcquired(await root.acquire(cwd))
  })

  test(`${octal(mode)}: root takes over, then the other user acquires again`, {
    skip,
  }, async (t) => {
    const { cwd, path, root, nobody } = place(t, mode)
    assertAcquired(await nobody.acquire(cwd))
    await nobody.ends('SIGKILL')
    assertAcquired(await root.acquire(cwd), nobody.child.pid)
    const { uid, mode: permissions } = statSync(path)
    assert.deepEqual([uid, permissions & 0o7777], [NOBODY, 0o600], 'taken over in place')
    // The user nobody owns the file and can read it. EPERM of `kill` shows that the process of root is alive.
    const second = new Peer(t, { uid: NOBODY })
    assertRefused(await second.acquire(cwd), root.child.pid)
    const { state } = (await second.ask({ do: 'inspect', cwd })).value as { state: string }
    assert.equal(state, 'held')
    assertRefused(await second.ask({ do: 'break', cwd }), root.child.pid)
    assert.equal((await root.ask({ do: 'release', cwd })).ok, true)
    assertAcquired(await second.acquire(cwd))
    assert.equal((await second.ask({ do: 'release', cwd })).ok, true)
    assertAcquired(await second.acquire(cwd))
    assert.equal(statSync(path).uid, NOBODY)
  })

  test(`${octal(mode)}: each user takes over from the other`, { skip }, async (t) => {
    const { cwd, root, nobody } = place(t, mode)
    assertAcquired(await nobody.acquire(cwd))
    await nobody.ends('SIGKILL')
    assertAcquired(await root.acquire(cwd), nobody.child.pid)
    await root.ends('SIGKILL')
    assertAcquired(await new Peer(t, { uid: NOBODY }).acquire(cwd), root.child.pid)
  })

  test(`${octal(mode)}: root breaks the lock of another user`, { skip }, async (t) => {
    const { cwd, path, root, nobody } = place(t, mode)
    assertAcquired(await nobody.acquire(cwd))
    assert.equal((await root.ask({ do: 'force', cwd })).value, true)
    assertAcquired(await root.acquire(cwd))
    assert.equal((await nobody.ask({ do: 'release', cwd })).code, 'E_LOCK_LOST')
    assert.equal(statSync(path).uid, 0, "root's lock stays")
    assertDenied(await nobody.acquire(cwd), path)
  })

  for (const [kind, record] of [
    ['legacy record of root', (peer: Peer) => ({ pid: peer.child.pid, createdAt: 1 })],
    ['legacy record, pid 1', () => ({ pid: 1, createdAt: 1 })],
    ['record of root', (_: Peer, path: string) => readRecord(path)],
  ] as const) {
    test(`${octal(mode)}: ${kind} is held for another user`, { skip }, async (t) => {
      const elsewhere = directory(t)
      const { cwd, path, root, nobody } = place(t, mode)
      assertAcquired(await root.acquire(elsewhere))
      const content = record(root, resolveLockPath(elsewhere))
      // Without its kernel lock, so that only the process decides.
      leave(cwd, content, 3600)
      chmodSync(path, 0o666)
      const before = readFileSync(path, 'utf8')
      const { pid } = content as { pid: number }
      assertRefused(await nobody.acquire(cwd), pid)
      assertRefused(await nobody.ask({ do: 'break', cwd }), pid)
      const status = (await nobody.ask({ do: 'inspect', cwd })).value as { state: string; reason: string }
      assert.equal(status.state, 'held')
      assert.match(status.reason, new RegExp(`process ${pid} `))
      assertStays(path, before)
      // A file that the user can only read can be inspected.
      chmodSync(path, 0o644)
      const inspected = (await nobody.ask({ do: 'inspect', cwd })).value as { state: string }
      assert.equal(inspected.state, 'held')
      assertDenied(await nobody.acquire(cwd), path)
      assertStays(path, before)
    })
  }

  test(`${octal(mode)}: the kernel lock of root refuses another user`, {
    skip,
  }, async (t) => {
    const { cwd, path, root, nobody } = place(t, mode)
    assertAcquired(await root.acquire(cwd))
    chmodSync(path, 0o666)
    assertRefused(await nobody.acquire(cwd), root.child.pid)
    assertRefused(await nobody.ask({ do: 'break', cwd }), root.child.pid)
    assert.equal((await root.ask({ do: 'release', cwd })).ok, true)
  })
}

test('1777: another user cannot unlink a file of root', { skip }, async (t) => {
  const { cwd, path, root, nobody } = place(t, 0o1777)
  const pid = deadPid()
  leave(cwd, { pid, createdAt: 1 })
  chmodSync(path, 0o666)
  const before = readFileSync(path, 'utf8')
  assertDenied(await nobody.ask({ do: 'force', cwd }), path, 'EPERM', 'unlink')
  assertStays(path, before)
  // It may write to the file, so it can hold the lock. A release leaves the file, marked as released.
  assertAcquired(await nobody.acquire(cwd), pid)
  assertRefused(await root.acquire(cwd), nobody.child.pid)
  assert.equal((await nobody.ask({ do: 'release', cwd })).ok, true)
  assert.equal(((await nobody.ask({ do: 'inspect', cwd })).value as { state: string }).state, 'free')
  assertAcquired(await nobody.acquire(cwd))
  assert.equal((await nobody.ask({ do: 'release', cwd })).ok, true)
  assertAcquired(await root.acquire(cwd))
  assert.equal(statSync(path).mode & 0o7777, 0o600, 'the owner has set the mode')
})

test('a durable lock needs permission to read the directory', { skip }, async (t) => {
  const { cwd, path, nobody } = place(t, 0o733)
  const options = { durable: true }
  const text = `EACCES: permission denied, open '${path}'; user ${NOBODY} may not read the directory, which a durable lock requires`
  const denied = { ok: false, name: 'Error', code: 'EACCES', syscall: 'open', path, message: text }
  assert.deepEqual(await nobody.ask({ do: 'acquire', cwd, options }), denied)
  const pid = deadPid()
  leave(cwd, { pid, createdAt: 1 })
  chownSync(path, NOBODY, NOBODY)
  assert.deepEqual(await nobody.ask({ do: 'acquire', cwd, options }), denied, 'after a take-over')
  assertAcquired(await nobody.acquire(cwd), pid)
})

test('a lock of root refuses the owner of the directory', {
  skip,
}, async (t) => {
  const { cwd, path, root, nobody } = place(t, 0o755)
  chownSync(cwd, NOBODY, NOBODY)
  assertAcquired(await root.acquire(cwd))
  assertDenied(await nobody.acquire(cwd), path)
  assert.equal((await root.ask({ do: 'release', cwd })).ok, true)
  assertAcquired(await nobody.acquire(cwd))
  assertRefused(await root.acquire(cwd), nobody.child.pid)
})

/** Runs a command as the user nobody, with a `/proc` that shows each user only its own processes. */
const HIDING =
  'mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" "$@"'
const hiding = ['unshare', '--mount', 'sh', '-c', HIDING]

/** Why no process can be started by this command here. */
function without([command = '', ...args]: string[]): string | false {
  if (process.versions.deno) return 'Deno cannot connect to a process started by unshare'
  const { status, stderr } = spawnSync(command, [...args, 'true'], { encoding: 'utf8' })
  return status !== 0 && `${command} fails: ${stderr.trim()}`
}

test('a process hidden in /proc still holds its lock', { skip: skip || without(hiding) }, async (t) => {
  const { cwd, path, root } = place(t, 0o777)
  assertAcquired(await root.acquire(cwd))
  const record = readRecord(path)
  assert.equal((await root.ask({ do: 'release', cwd })).ok, true)
  // Its kernel lock is free, so only the process decides.
  leave(cwd, record)
  chmodSync(path, 0o666)
  const hidden = new Peer(t, { uid: 0, within: hiding })
  assertRefused(await hidden.acquire(cwd), root.child.pid)
  await root.ends('SIGKILL')
  assertAcquired(await hidden.acquire(cwd), Number(record.pid))
})

const IN_USER_NAMESPACE = ['unshare', '--user', '--map-root-user']

test('1777: a file of an unmapped user is refused', {
  skip: skip || without(IN_USER_NAMESPACE),
}, async (t) => {
  const { cwd, path } = place(t, 0o1777)
  chownSync(cwd, NOBODY - 1, NOBODY - 1)
  leave(cwd, { pid: deadPid(), createdAt: 1 })
  chmodSync(path, 0o666)
  chownSync(path, NOBODY - 2, NOBODY - 2)
  // Both owners have the overflow uid there.
  const inside = new Peer(t, { uid: 0, within: IN_USER_NAMESPACE })
  for (const what of ['acquire', 'inspect', 'break'] as const)
    assert.equal((await inside.ask({ do: what, cwd })).code, 'E_LOCK_NOT_A_FILE')
})

test('a waiter is denied when its directory becomes unreadable', { skip }, async (t) => {
  const { cwd, path, root, nobody } = place(t, 0o777)
  const mode = 0o666
  assertAcquired(await root.ask({ do: 'acquire', cwd, options: { mode } }))
  const waiting = nobody.ask({ do: 'acquire', cwd, options: { mode, timeout: 30_000 } })
  await until(() => waits(nobody.child.pid), 'the process waits')
  chmodSync(cwd, 0o700)
  const began = performance.now()
  assertDenied(await waiting, path)
  // No event reports it: a waiter checks four times a second.
  assert.ok(performance.now() - began < 10_000)
  assert.equal((await root.ask({ do: 'release', cwd })).ok, true)
})

test("a reader's file of an untrusted user refuses owners", { skip }, async (t) => {
  const { cwd, nobody } = place(t, 0o1777)
  const options = { file: 'l', shared: true }
  assertAcquired(await nobody.ask({ do: 'acquire', cwd, options }))
  const readers = join(cwd, 'l.readers')
  for (const uid of [0, NOBODY - 1]) {
    const owner = new Peer(t, { uid })
    for (const what of ['acquire', 'inspect', 'break'] as const) {
      const { ok, code, path } = await owner.ask({ do: what, cwd, options: { file: 'l' } })
      assert.deepEqual([ok, code, path], [false, 'E_LOCK_NOT_A_FILE', readers])
    }
    assert.deepEqual(readdirSync(cwd), ['l.readers'])
  }
  assert.equal(
    (await new Peer(t, { uid: NOBODY - 1 }).ask({ do: 'force', cwd, options: { file: 'l' } })).value,
    false,
  )
  assert.deepEqual(readdirSync(cwd), ['l.readers'])
  // With a mode that lets others write, this user is trusted.
  const trusting = { file: 'l', mode: 0o666 }
  assertRefused(await new Peer(t, { uid: 0 }).ask({ do: 'acquire', cwd, options: trusting }), undefined)
  assert.equal((await new Peer(t, { uid: 0 }).ask({ do: 'force', cwd, options: { file: 'l' } })).value, true)
  assert.deepEqual(readdirSync(cwd), [])
})
