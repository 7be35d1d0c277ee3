import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { acquireLockSync, breakLock, resolveLockPath } from 'reconcile-lock'
import { Bystanders } from './support/bystander.mjs'
import { deadPid, directory, leave, MESSAGE, rejection } from './support/directory.mjs'

const seconds = 3

test('breakers that never rest take no lock away', async (t) => {
  const cwd = directory(t)
  const breakers = await Bystanders.start(t, 3, 'break', cwd)
  const stale = JSON.stringify({ pid: deadPid(), createdAt: 1 })
  let pairs = 0
  for (const end = performance.now() + seconds * 1000; performance.now() < end; pairs += 1) {
    if (pairs % 50 === 0) writeFileSync(resolveLockPath(cwd), stale)
    const lock = acquireLockSync({ cwd, timeout: 10_000 })
    assert.equal(lock.isHeld(), true)
    lock.releaseSync()
  }
  const breaks = await breakers.end()
  t.diagnostic(`${pairs} pairs beside ${breaks} tries to break`)
  assert.ok(pairs > 100 && breaks > 100)
})

test('a stale record is not broken while somebody has its kernel lock', async (t) => {
  const cwd = directory(t)
  const path = leave(cwd, { pid: deadPid(), createdAt: 1 })
  const before = readFileSync(path)
  const locker = spawn('flock', [path, 'sh', '-c', 'echo locked; read line'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(locker.stdout, 'data')
  const refused = await rejection(breakLock(cwd))
  assert.deepEqual([refused.code, refused.message], ['E_LOCK_CONTENTION', MESSAGE])
  assert.deepEqual(readFileSync(path), before)
  const ended = once(locker, 'exit')
  locker.stdin.end('go\n')
  await ended
  assert.equal(await breakLock(cwd), true)
  assert.equal(existsSync(path), false)
})

test('by force a held lock goes, its holder learns of it, and the next lock is left alone by that', async (t) => {
  const cwd = directory(t)
  const old = acquireLockSync(cwd)
  assert.equal((await rejection(breakLock({ cwd }))).code, 'E_LOCK_CONTENTION')
  assert.equal(await breakLock({ cwd, force: true }), true)
  assert.equal(old.isHeld(), false)
  const next = acquireLockSync(cwd)
  assert.throws(() => old.releaseSync(), { code: 'E_LOCK_LOST' })
  assert.equal(next.isHeld(), true)
  next.releaseSync()
  assert.equal(await breakLock({ cwd, force: true }), false, 'there is nothing to break')
  assert.equal(existsSync(resolveLockPath(cwd)), false)
})

test('the documentation of force says what it does', () => {
  const types = readFileSync(fileURLToPath(new URL('../../index.d.ts', import.meta.url)), 'utf8')
  const [documented = ''] = /\/\*\*(?:(?!\*\/)[\s\S])*\*\/\s*export function breakLock/.exec(types) ?? []
  assert.match(documented, /force/)
  assert.match(documented, /E_LOCK_LOST/)
})
