// What is measured: one function per contender, each a whole acquire and release or one refused acquire.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import lockfile from 'lockfile'
import properLockfile from 'proper-lockfile'
import { root } from '../steps.mjs'

const addonPath = `${root}dist/index.js`
const legacyPath = `${root}build/__test__/legacy/lock.mjs`
const holderPath = `${root}scripts/bench/holder.mjs`

const addon = createRequire(import.meta.url)(addonPath)
const legacy = await import(pathToFileURL(legacyPath).href)
const lockfileLock = promisify(lockfile.lock)
const lockfileUnlock = promisify(lockfile.unlock)

/** Starts a process that holds the lock of `directory` and waits until it does. */
async function hold(modulePath, directory) {
  const args = [holderPath, pathToFileURL(modulePath).href, directory]
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const outcome = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
  if (String(outcome[0]).trim() !== 'held') throw new Error(`the holder of ${directory} ended early`)
  return child
}

// A contender that wins the held lock, or fails for another reason, would be measured for the wrong thing.
function expectRefusal(error) {
  if (!error.message.startsWith('Another reconcile run is in progress')) throw error
}

const won = () => {
  throw new Error('a held lock was acquired')
}

function refusedSync(acquire) {
  return () => {
    let lock
    try {
      lock = acquire()
    } catch (error) {
      expectRefusal(error)
      return
    }
    won(lock)
  }
}

function refusedAsync(acquire) {
  return async () => {
    let lock
    try {
      lock = await acquire()
    } catch (error) {
      expectRefusal(error)
      return
    }
    won(lock)
  }
}

/** The uncontended pairs in `parent`; every contender has a directory of its own. */
export function pairs(parent) {
  const directory = (name) => {
    const path = join(parent, name)
    mkdirSync(path)
    return path
  }
  // proper-lockfile locks a file that exists, by making a directory beside it.
  const subject = (name) => {
    const path = join(directory(name), 'subject.json')
    writeFileSync(path, '{}')
    return path
  }
  const ownSync = directory('own-sync')
  const ownAsync = directory('own-async')
  const legacyAsync = directory('legacy-async')
  const properSync = subject('proper-sync')
  const properAsync = subject('proper-async')
  const fileSync = join(directory('lockfile-sync'), 'lockfile.lock')
  const fileAsync = join(directory('lockfile-async'), 'lockfile.lock')
  return [
    {
      name: 'acquireLockSync',
      async: false,
      fn: () => {
        addon.acquireLockSync(ownSync).releaseSync()
      },
    },
    {
      name: 'acquireLock',
      async: true,
      fn: async () => {
        const lock = await addon.acquireLock(ownAsync)
        await lock.release()
      },
    },
    {
      name: 'original (TypeScript)',
      async: true,
      fn: async () => {
        await legacy.acquireLock(legacyAsync)
        await legacy.releaseLock(legacyAsync)
      },
    },
    {
      name: 'proper-lockfile sync',
      async: false,
      fn: () => {
        properLockfile.lockSync(properSync)
        properLockfile.unlockSync(properSync)
      },
    },
    {
      name: 'proper-lockfile async',
      async: true,
      fn: async () => {
        await properLockfile.lock(properAsync)
        await properLockfile.unlock(properAsync)
      },
    },
    {
      name: 'lockfile sync',
      async: false,
      fn: () => {
        lockfile.lockSync(fileSync)
        lockfile.unlockSync(fileSync)
      },
    },
    {
      name: 'lockfile async',
      async: true,
      fn: async () => {
        await lockfileLock(fileAsync)
        await lockfileUnlock(fileAsync)
      },
    },
  ].map((contender) => ({ operation: 'pair', ...contender }))
}

/** The refused acquires in `parent`, and the processes that hold the locks there. */
export async function refusals(parent) {
  const ownHeld = join(parent, 'own-held')
  const legacyHeld = join(parent, 'legacy-held')
  mkdirSync(ownHeld)
  mkdirSync(legacyHeld)
  const holders = [await hold(addonPath, ownHeld), await hold(legacyPath, legacyHeld)]
  const contenders = [
    { name: 'acquireLockSync', async: false, fn: refusedSync(() => addon.acquireLockSync(ownHeld)) },
    { name: 'acquireLock', async: true, fn: refusedAsync(() => addon.acquireLock(ownHeld)) },
    {
      name: 'original (TypeScript)',
      async: true,
      fn: refusedAsync(() => legacy.acquireLock(legacyHeld)),
    },
  ].map((contender) => ({ operation: 'refused', ...contender }))
  return { contenders, holders }
}
