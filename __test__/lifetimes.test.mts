import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readdirSync, readlinkSync } from 'node:fs'
import { test } from 'node:test'
import { acquireLock, acquireLockSync, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { directory } from './support/directory.mjs'
import { begun, ended } from './support/program.mjs'

const LOCKS = `
  const other = lock.acquireLockSync({ cwd, file: 'other.lock' })
  lock.acquireLock(cwd).then((mine) => {`

for (const [how, body, code] of [
  ['process.exit', 'process.exit(3)', 3],
  ['its natural end', '', 0],
  ['an uncaught error', "throw new Error('on purpose')", 1],
  ['an error in a timer', "setTimeout(() => { throw new Error('on purpose') })", 1],
  ['an unhandled rejection', "Promise.reject(new Error('on purpose'))", 1],
  ['an exit within an exit', "process.on('exit', () => process.exit(4)); process.exit(3)", 4],
  [
    'an exit before it has heard of its lock',
    "lock.acquireLock({ cwd, file: 'third.lock' }); process.exit(5)",
    5,
  ],
] as const) {
  test(`a process that ends by ${how} removes the files of its locks`, (t) => {
    const cwd = directory(t)
    const end = ended(t, cwd, `${LOCKS} ${body} })`)
    assert.equal(end.code, code, end.stderr)
    assert.deepEqual(
      readdirSync(cwd).filter((name) => name !== 'third.lock'),
      [],
    )
    const lock = acquireLockSync(cwd)
    assert.equal(lock.takenOver, undefined)
    lock.releaseSync()
  })
}

for (const [signal, how] of [
  ['SIGINT', 'process.kill(process.pid, "SIGINT")'],
  ['SIGTERM', 'process.kill(process.pid, "SIGTERM")'],
  ['SIGHUP', 'process.kill(process.pid, "SIGHUP")'],
  ['SIGKILL', 'process.kill(process.pid, "SIGKILL")'],
  ['SIGABRT', 'process.abort()'],
] as const) {
  test(`${signal} keeps its meaning: the lock is stale at once, and taken over at once`, async (t) => {
    const cwd = directory(t)
    const end = ended(t, cwd, `${LOCKS} ${how}; setTimeout(() => {}, 60_000) })`)
    assert.equal(end.signal, signal)
    const { state, holder, reason } = inspectLockSync(cwd)
    assert.equal(state, 'stale')
    assert.equal(reason, `process ${holder?.pid} ended without releasing`)
    const started = performance.now()
    const lock = await acquireLock(cwd)
    assert.ok(performance.now() - started < 500)
    assert.equal(lock.takenOver?.holder?.pid, holder?.pid)
    await lock.release()
  })
}

test('no signal handler is installed, and the exit is watched from the first lock to the last', (t) => {
  const end = ended(
    t,
    directory(t),
    `
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'beforeExit', 'uncaughtException', 'unhandledRejection']
    const counts = () => [process.listenerCount('exit'), ...signals.map((name) => process.listenerCount(name))].join('')
    const seen = [counts()]
    const one = lock.acquireLockSync(cwd)
    seen.push(counts())
    const two = lock.acquireLockSync({ cwd, file: 'two' })
    one.releaseSync()
    seen.push(counts())
    one.releaseSync()
    seen.push(counts())
    two.releaseSync()
    seen.push(counts())
    console.log(seen.join())`,
  )
  assert.equal(end.stdout, '00000000,10000000,10000000,10000000,00000000\n')
})

test('a lock that is acquired while the process exits is dropped by the kernel', (t) => {
  const cwd = directory(t)
  const end = ended(t, cwd, "process.on('exit', () => lock.acquireLockSync(cwd))")
  assert.equal(end.code, 0, end.stderr)
  acquireLockSync(cwd).releaseSync()
})

const spawners = {
  'spawned and detached': "spawn('sleep', ['60'], { detached: true, stdio: 'ignore' })",
  'spawned with our streams': "spawn('sleep', ['60'], { detached: true, stdio: 'inherit' })",
  'run by a shell': "exec('sleep 60')",
  forked: "fork(__dirname + '/child.cjs', [], { detached: true, stdio: 'ignore' })",
} as const

for (const [how, spawner] of Object.entries(spawners)) {
  for (const end of ['SIGKILL', 'exit'] as const) {
    test(`a child that is ${how} and outlives its parent does not keep the lock (${end})`, async (t) => {
      const cwd = directory(t)
      const [parent, pid] = await begun(
        t,
        cwd,
        `
        const { exec, fork, spawn } = require('node:child_process')
        require('node:fs').writeFileSync(__dirname + '/child.cjs', 'setInterval(() => {}, 1e6)')
        lock.acquireLockSync(cwd)
        const child = ${spawner}
        child.unref()
        process.on('SIGUSR2', () => process.exit(0))
        child.once('spawn', () => console.log(child.pid))
        setInterval(() => {}, 1e6)`,
      )
      const child = Number(pid)
      t.after(() => process.kill(child, 'SIGKILL'))
      const open = readdirSync(`/proc/${child}/fd`).map((fd) => readlinkSync(`/proc/${child}/fd/${fd}`))
      assert.ok(!open.includes(resolveLockPath(cwd)), open.join())
      const ended = once(parent, 'exit')
      parent.kill(end === 'exit' ? 'SIGUSR2' : end)
      await ended
      assert.equal(process.kill(child, 0), true, 'the child is still there')
      const lock = acquireLockSync(cwd)
      assert.equal(lock.takenOver !== undefined, end === 'SIGKILL')
      lock.releaseSync()
    })
  }
}

test('isHeld has no side effects', async (t) => {
  const cwd = directory(t)
  const lock = await acquireLock(cwd)
  const before = JSON.stringify(inspectLockSync(cwd))
  for (let look = 0; look < 100; look += 1) assert.equal(lock.isHeld(), true)
  assert.equal(JSON.stringify(inspectLockSync(cwd)), before)
  await lock.release()
  assert.equal(lock.isHeld(), false)
  assert.equal(existsSync(lock.path), false)
  const again = await acquireLock(cwd)
  assert.equal(lock.isHeld(), false, 'the next lock of that path is another')
  await again.release()
})
