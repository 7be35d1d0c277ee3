// What a real system does only when it is ill: strace makes single calls on the lock's path fail or hang.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { acquireLock, breakLock, inspectLock, resolveLockPath } from 'reconcile-lock'
import { deadPid, directory, leave } from './support/directory.mjs'

const main = createRequire(import.meta.url).resolve('reconcile-lock')
const missing = spawnSync('strace', ['-V']).status !== 0 && 'strace is not installed'

/** Runs `program` with `cwd` and the package's functions in scope, and gives what it prints, as JSON. */
function traced(cwd: string, inject: string, program: string): Record<string, unknown> {
  const text = `
    const cwd = ${JSON.stringify(cwd)}
    const { acquireLock, acquireLockSync, breakLock, inspectLock } = require(${JSON.stringify(main)})
    const told = ({ code, message, syscall, errno, holder }) => ({ code, message, syscall, errno, holder })
    ;(async () => {${program}})().then((said) => console.log(JSON.stringify(said ?? {})))`
  const strace = ['-f', '-qq', '-o', '/dev/null', '-P', resolveLockPath(cwd), '-e', `inject=${inject}`]
  const { stdout, stderr, status } = spawnSync('strace', [...strace, process.execPath, '-e', text], {
    encoding: 'utf8',
  })
  assert.equal(status, 0, stderr)
  return JSON.parse(stdout)
}

test('without kernel locks: creating is exclusive, a stale file is reported and not taken over', {
  skip: missing,
}, async (t) => {
  const cwd = directory(t)
  const said = traced(
    cwd,
    'flock:error=ENOLCK',
    `const lock = await acquireLock(cwd)
     const refused = await acquireLock(cwd).catch(told)
     process.kill(process.pid, 0)
     await lock.release()
     return { refused, free: (await inspectLock(cwd)).state }`,
  )
  assert.equal((said.refused as { code: string }).code, 'E_LOCK_CONTENTION')
  assert.equal(said.free, 'free')

  const killed = await acquireLock(cwd)
  const record = JSON.parse((await import('node:fs')).readFileSync(killed.path, 'utf8'))
  await killed.release()
  leave(cwd, { ...record, pid: deadPid() })
  const stale = traced(
    cwd,
    'flock:error=EOPNOTSUPP',
    `const error = await acquireLock(cwd).catch(told)
     return { ...error, state: (await inspectLock(cwd)).state, broken: await breakLock(cwd) }`,
  )
  assert.deepEqual([stale.code, stale.state, stale.broken], ['E_LOCK_STALE', 'stale', true])
  assert.match(String(stale.message), /ended without releasing.*breakLock\(\)/)
  assert.equal(existsSync(resolveLockPath(cwd)), false)
})

for (const [call, error, syscall] of [
  ['open,openat', 'EMFILE', 'open'],
  ['flock', 'EIO', 'flock'],
  ['fstat,newfstatat,statx', 'EIO', 'fstat'],
  ['pwrite64', 'EDQUOT', 'write'],
] as const) {
  test(`${syscall} that fails with ${error} is that error, and leaves nothing behind`, {
    skip: missing,
  }, (t) => {
    const cwd = directory(t)
    for (const form of ['await acquireLock(cwd)', 'acquireLockSync(cwd)']) {
      const said = traced(
        cwd,
        `${call}:error=${error}`,
        `try { ${form} } catch (error) { return told(error) }`,
      )
      assert.deepEqual([said.code, said.syscall], [error, syscall])
      assert.match(String(said.message), new RegExp(`^${error}: .+, ${syscall} '`))
      assert.deepEqual(readdirSync(cwd), [])
    }
  })
}

test('a slow disk does not hold up the event loop', { skip: missing }, async (t) => {
  const cwd = directory(t)
  const said = traced(
    cwd,
    'open,openat,unlink,unlinkat:delay_enter=400000',
    `let longest = 0
     let ticks = 0
     let last = performance.now()
     const timer = setInterval(() => {
       const now = performance.now()
       longest = Math.max(longest, now - last)
       last = now
       ticks += 1
     }, 5)
     const before = performance.now()
     const lock = await acquireLock(cwd)
     const acquired = performance.now() - before
     await lock.release()
     const released = performance.now() - before - acquired
     clearInterval(timer)
     return { longest, ticks, acquired, released }`,
  )
  const { longest, ticks, acquired, released } = said as Record<string, number>
  assert.ok(
    Number(acquired) >= 400 && Number(released) >= 400,
    `the disk was not slow: ${JSON.stringify(said)}`,
  )
  assert.ok(
    Number(longest) < 150 && Number(ticks) > 50,
    `the event loop stood still: ${JSON.stringify(said)}`,
  )
  assert.equal((await inspectLock(cwd)).state, 'free')
  assert.equal(await breakLock(cwd), false)
})
