// Two containers share a directory. Each process is pid 1 in its own namespace, so the pid of a record does
// not identify it to the other.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type TestContext, test } from 'node:test'
import { type LockStatus, resolveLockPath, type TakenOver } from 'reconcile-lock'
import { type Answer, Peer } from '../support/child.mjs'
import { directory, MESSAGE, readRecord } from '../support/directory.mjs'
import { container, killContainer as kill, withoutNamespaces } from '../support/namespace.mjs'

const skip = withoutNamespaces
const main = createRequire(import.meta.url).resolve('reconcile-lock')

function assertRefused(answer: Answer, pid: number | undefined): void {
  const { ok, code, message, holder } = answer
  assert.deepEqual([ok, code, message], [false, 'E_LOCK_CONTENTION', MESSAGE])
  assert.equal(holder?.pid, pid, 'the holder has the pid of its own namespace')
}

async function assertHeld(asker: Peer, cwd: string, pid: number | undefined): Promise<void> {
  assertRefused(await asker.acquire(cwd), pid)
  assertRefused(await asker.ask({ do: 'break', cwd }), pid)
  const status = (await asker.ask({ do: 'inspect', cwd })).value as LockStatus
  assert.equal(status.state, 'held')
  assert.equal(status.holder?.pid, pid)
  assert.match(status.reason, new RegExp(`process ${pid} .*has held it`))
}

async function assertTakenOver(asker: Peer, cwd: string, pid: number | undefined): Promise<void> {
  const status = (await asker.ask({ do: 'inspect', cwd })).value as LockStatus
  assert.deepEqual([status.state, status.holder?.pid], ['stale', pid], status.reason)
  const before = performance.now()
  const answer = await asker.acquire(cwd)
  const took = performance.now() - before
  assert.equal(answer.ok, true, answer.message)
  // The creation grace period is 2 s.
  assert.ok(took < 1500, `the take-over took ${took} ms`)
  const { holder, reason } = answer.value as TakenOver
  assert.equal(holder?.pid, pid)
  assert.match(reason, new RegExp(`^process ${pid} .*ended without releasing`))
}

async function assertReleased(holder: Peer, cwd: string): Promise<void> {
  assert.equal((await holder.ask({ do: 'release', cwd })).ok, true)
  assert.equal(existsSync(resolveLockPath(cwd)), false)
}

/** Each process holds in turn and refuses the other; then one is killed and the other takes over. */
async function meet(
  t: TestContext,
  make: () => [Peer, Peer],
  pids: (a: Peer, b: Peer) => (number | undefined)[],
) {
  for (const first of [0, 1] as const) {
    await t.test(first === 0 ? 'the first process holds' : 'the second process holds', async (t) => {
      const cwd = directory(t)
      const peers = make()
      const named = pids(...peers)
      const [holder, asker] = first === 0 ? peers : [peers[1], peers[0]]
      assert.equal((await holder.acquire(cwd)).ok, true)
      assert.equal(readRecord(resolveLockPath(cwd)).pid, named[first])
      await assertHeld(asker, cwd, named[first])
      await assertReleased(holder, cwd)
      assert.equal((await asker.acquire(cwd)).value, undefined)
      await assertHeld(holder, cwd, named[1 - first])
      await assertReleased(asker, cwd)
      assert.equal((await holder.acquire(cwd)).ok, true)
      if (named[first] === 1) await kill(holder)
      else await holder.ends('SIGKILL')
      await assertTakenOver(asker, cwd, named[first])
      await assertReleased(asker, cwd)
    })
  }
}

test('pid 1 of two namespaces exclude each other', { skip }, async (t) => {
  await meet(
    t,
    () => [container(t), container(t)],
    () => [1, 1],
  )
})

test('a namespace and the host exclude each other', { skip }, async (t) => {
  await meet(
    t,
    () => [container(t), new Peer(t)],
    (_, host) => [1, host.child.pid],
  )
})

test('a restarted container takes over its own stale lock', { skip }, async (t) => {
  const cwd = directory(t)
  // The kernel reuses the number of an ended namespace.
  for (let round = 0; round < 3; round += 1) {
    const killed = container(t)
    assert.equal((await killed.acquire(cwd)).ok, true)
    await kill(killed)
    const next = container(t)
    await assertTakenOver(next, cwd, 1)
    await assertReleased(next, cwd)
    await kill(next)
  }
})

const traceless = spawnSync('strace', ['-V']).status !== 0 && 'strace is not installed'

test('without kernel locks a record of another namespace is held', {
  skip: skip || traceless,
}, async (t) => {
  const cwd = directory(t)
  const path = resolveLockPath(cwd)
  const holder = container(t)
  const inject = ['-P', path, '-e', 'inject=flock:error=ENOLCK']
  const asker = container(t, ['strace', '-f', '-qq', '-o', '/dev/null', ...inject])
  assert.equal((await holder.acquire(cwd)).ok, true)
  const record = readFileSync(path)
  const assertStillHeld = async () => {
    assertRefused(await asker.acquire(cwd), 1)
    assertRefused(await asker.ask({ do: 'break', cwd }), 1)
    const status = (await asker.ask({ do: 'inspect', cwd })).value as LockStatus
    assert.equal(status.state, 'held')
    assert.match(status.reason, /another pid namespace, which this process cannot see/)
    assert.deepEqual(readFileSync(path), record)
  }
  await assertStillHeld()
  await kill(holder)
  await assertStillHeld()
  assert.equal((await asker.ask({ do: 'force', cwd })).value, true)
  assert.equal((await asker.acquire(cwd)).ok, true)
})

// unshare(1) without `--mount-proc`: `/proc/1` is a process of the parent namespace.
const PARENTS_PROC = ['unshare', '--pid', '--fork', '--kill-child']
/** Then only the process decides. */
const WITHOUT_KERNEL_LOCKS = 'strace -f -qq -o /dev/null -e trace=flock -e inject=flock:error=ENOLCK'.split(
  ' ',
)
const rootless = process.getuid?.() !== 0 && 'only root can make a pid namespace alone'

test('a process whose /proc has other pids holds its lock', {
  skip: skip || traceless || rootless,
}, async (t) => {
  const cwd = directory(t)
  const path = resolveLockPath(cwd)
  const holder = new Peer(t, { within: [...PARENTS_PROC, ...WITHOUT_KERNEL_LOCKS] })
  assert.equal((await holder.acquire(cwd)).ok, true)
  const { pid, startTime } = readRecord(path)
  assert.deepEqual([pid !== undefined, typeof startTime], [true, 'number'])
  await assertHeld(holder, cwd, Number(pid))
  await assertReleased(holder, cwd)
})

/** Its child gets the pid `argv[1]`, which is another process in `/proc`. Prints how that holder is seen. */
const OBSERVER = `
const { spawn } = require('node:child_process')
const { writeFileSync } = require('node:fs')
const { acquireLock, breakLock, inspectLock } = require(${JSON.stringify(main)})
const [pid, cwd] = process.argv.slice(1)
const hold = 'require(' + JSON.stringify(${JSON.stringify(main)}) + ').acquireLockSync(process.argv[1]); console.log("held"); process.stdin.resume()'
const code = ({ code, holder }) => [code, holder?.pid]
writeFileSync('/proc/sys/kernel/ns_last_pid', String(pid - 1))
const holder = spawn(process.execPath, ['-e', hold, cwd], { stdio: ['pipe', 'pipe', 'inherit'] })
holder.stdout.once('data', async () => {
  const { state, reason, command } = await inspectLock(cwd)
  const calls = [acquireLock(cwd), breakLock(cwd)]
  console.log(JSON.stringify({ pid: holder.pid, state, reason, command, refused: await Promise.all(calls.map((call) => call.then(String, code))) }))
  holder.stdin.end()
})`

for (const [what, within] of [
  ['with', []],
  ['without', WITHOUT_KERNEL_LOCKS],
] as const)
  test(`other pids in /proc prove no death: ${what} kernel locks`, {
    skip: skip || rootless || (within.length > 0 && traceless),
  }, (t) => {
    const cwd = directory(t)
    const { pid } = process
    const [command = '', ...args] = [...PARENTS_PROC, ...within, process.execPath, '-e', OBSERVER]
    const { stdout, stderr } = spawnSync(command, [...args, String(pid), cwd], { encoding: 'utf8' })
    assert.equal(stderr, '')
    const { reason, ...seen } = JSON.parse(stdout)
    const refused = ['E_LOCK_CONTENTION', pid]
    assert.deepEqual(seen, { pid, state: 'held', refused: [refused, refused] })
    assert.match(reason, new RegExp(`^process ${pid} on .* has held it`))
  })

/** Its clock since boot is 100,000 s ahead. */
const OTHER_TIME = ['unshare', '--time', '--boottime', '100000', '--fork', '--kill-child']
const cannotUnshareTime = spawnSync(OTHER_TIME[0] ?? '', [...OTHER_TIME.slice(1), 'true']).status !== 0

for (const [what, [holds, asks]] of [
  ['inside', [OTHER_TIME, []]],
  ['outside', [[], OTHER_TIME]],
] as const)
  test(`another time namespace proves no death: holder ${what}`, {
    skip: skip || traceless || (cannotUnshareTime && 'no time namespace can be made here'),
  }, async (t) => {
    const cwd = directory(t)
    const [holder, asker] = [holds, asks].map(
      (within) => new Peer(t, { within: [...within, ...WITHOUT_KERNEL_LOCKS] }),
    )
    assert.ok(holder && asker)
    assert.equal((await holder.acquire(cwd)).ok, true)
    const { pid } = readRecord(resolveLockPath(cwd))
    await assertHeld(asker, cwd, Number(pid))
    await assertHeld(holder, cwd, Number(pid))
    await assertReleased(holder, cwd)
  })
