// Tests of programs replace timers, clocks and setImmediate. The calls keep using the originals.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { mock, test } from 'node:test'
import { acquireLock, acquireLockSync, withLock } from 'reconcile-lock'
import { replacesImports } from '../support/deno.mjs'
import { directory, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'

const require = createRequire(import.meta.url)

/** Makes everything that fake timers replace throw; returns a function that restores it. */
function replaceGlobals(): () => void {
  const fail = () => {
    throw new Error('a replaced global was called')
  }
  const names = ['setTimeout', 'clearTimeout', 'setImmediate', 'setInterval', 'queueMicrotask'] as const
  const timers = require('node:timers')
  const kept = names.map((name) => [name, globalThis[name], timers[name]] as const)
  const [now, monotonic, tick] = [Date.now, performance.now, process.nextTick]
  for (const name of names) {
    Object.assign(globalThis, { [name]: fail })
    timers[name] = fail
  }
  Object.assign(Date, { now: fail })
  Object.assign(performance, { now: fail })
  return () => {
    for (const [name, ofGlobal, ofModule] of kept) {
      Object.assign(globalThis, { [name]: ofGlobal })
      timers[name] = ofModule
    }
    Object.assign(Date, { now })
    Object.assign(performance, { now: monotonic })
    process.nextTick = tick
  }
}

async function everyCall(cwd: string): Promise<void> {
  const held = await acquireLock(cwd)
  assert.equal((await rejection(acquireLock(cwd))).code, 'E_LOCK_CONTENTION')
  let reports = 0
  const onWait = () => {
    reports += 1
  }
  const options = { cwd, timeout: 500, onWait }
  assert.equal((await rejection(acquireLock(options))).code, 'E_LOCK_CONTENTION')
  assert.equal(reports, 1)
  const abort = new AbortController()
  const waiting = rejection(
    acquireLock({ cwd, timeout: 20_000, signal: abort.signal, onWait: () => abort.abort() }),
  )
  assert.equal((await waiting).name, 'AbortError')
  await held.release()
  await withLock(() => {}, cwd)
  acquireLockSync({ cwd, timeout: 30 }).releaseSync()
}

test('every call ends with replaced timers and clocks', async (t) => {
  const cwd = directory(t)
  const restore = replaceGlobals()
  try {
    await everyCall(cwd)
  } finally {
    restore()
  }
})

test(
  'every call ends with mock.timers enabled',
  knownFailure(replacesImports, async (t) => {
    const cwd = directory(t)
    mock.timers.enable()
    try {
      await everyCall(cwd)
    } finally {
      mock.timers.reset()
    }
  }),
)
