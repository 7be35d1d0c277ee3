// Measures with one process: acquire and release, refused acquires, diagnostics channels, and loading.
import { execFileSync, spawnSync } from 'node:child_process'
import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  mkdirSync,
  openSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import lockfile from 'lockfile'
import proper from 'proper-lockfile'
import * as legacy from '../../build/__test__/legacy/lock.mjs'
import { root } from '../steps.mjs'
import { measure, median, takeTurns } from './measure.mjs'
import { script, Worker } from './workers.mjs'

const { acquireLock, acquireLockSync } = createRequire(import.meta.url)('reconcile-lock')
const lockfileLock = promisify(lockfile.lock)
const lockfileUnlock = promisify(lockfile.unlock)

/** `benches/floor.rs`, a new process in every round, with so many iterations that its start does not matter. */
function floor(executable, path) {
  const each = (iterations) =>
    Number(execFileSync(executable, [path, String(iterations)], { encoding: 'utf8' })) / iterations
  const iterations = Math.ceil(150e6 / each(1000))
  return { name: 'floor', sample: () => each(iterations) }
}

/** Acquire and release; every contender has its own directory. */
function released(parent) {
  const place = (name) => {
    const path = join(parent, name)
    mkdirSync(path)
    return path
  }
  // proper-lockfile locks an existing file by a directory beside it.
  const subject = (name) => {
    const path = join(place(name), 'subject.json')
    writeFileSync(path, '{}')
    return path
  }
  const [own, ownAsync, old] = ['own-sync', 'own-async', 'legacy'].map(place)
  const [properSync, properAsync] = ['proper-sync', 'proper-async'].map(subject)
  const [file, fileAsync] = ['file-sync', 'file-async'].map((name) => join(place(name), 'lock'))
  const sync = (name, fn) => ({ name, sample: () => measure(fn, false) })
  const async = (name, acquire, release) => ({
    name,
    sample: () => measure(async () => release(await acquire())),
  })
  return [
    sync('acquireLockSync', () => acquireLockSync(own).releaseSync()),
    async(
      'acquireLock',
      () => acquireLock(ownAsync),
      (lock) => lock.release(),
    ),
    async(
      'legacy lock',
      () => legacy.acquireLock(old),
      () => legacy.releaseLock(old),
    ),
    sync('proper-lockfile sync', () => {
      proper.lockSync(properSync)
      proper.unlockSync(properSync)
    }),
    async(
      'proper-lockfile async',
      () => proper.lock(properAsync),
      () => proper.unlock(properAsync),
    ),
    sync('lockfile sync', () => {
      lockfile.lockSync(file)
      lockfile.unlockSync(file)
    }),
    async(
      'lockfile async',
      () => lockfileLock(fileAsync),
      () => lockfileUnlock(fileAsync),
    ),
  ]
}

// Any other outcome would make the measurement wrong.
function expectRefusal(error) {
  if (!error.message.startsWith('Another reconcile run is in progress')) throw error
}
const acquired = () => {
  throw new Error('a held lock was acquired')
}

/** Refused acquires, with holders of their locks. */
async function refused(parent) {
  const held = async (kind) => {
    const path = join(parent, `held-${kind}`)
    mkdirSync(path)
    const holder = await Worker.start(script('worker', kind, path))
    await holder.hold()
    return path
  }
  const [own, old] = [await held('own'), await held('legacy')]
  const refusedSync = () => {
    let lock
    try {
      lock = acquireLockSync(own)
    } catch (error) {
      return expectRefusal(error)
    }
    return acquired(lock)
  }
  const async = (acquire) => () => measure(() => acquire().then(acquired, expectRefusal))
  return [
    { name: 'acquireLockSync, refused', sample: () => measure(refusedSync, false) },
    { name: 'acquireLock, refused', sample: async(() => acquireLock(own)) },
    { name: 'legacy lock, refused', sample: async(() => legacy.acquireLock(old)) },
  ]
}

/** Measures on all media in turn; returns a table for each. */
export async function pairs({ media, executables, rounds }) {
  const contenders = []
  for (const { name: medium, directory } of media) {
    const least = floor(executables.floor, join(directory, 'floor.lock'))
    const all = [least, ...released(directory), ...(await refused(directory))]
    contenders.push(...all.map((contender) => ({ medium, ...contender })))
  }
  const measured = await takeTurns(contenders, rounds)
  return media.map(({ name }) => {
    const here = measured.filter(({ medium }) => medium === name)
    const least = median(here[0].samples)
    const rows = here.map(({ name, samples }) => ({
      ...{ name, 'median ns': median(samples), 'min ns': Math.min(...samples) },
      ...{ 'x floor': median(samples) / least, samples },
    }))
    return { medium: name, title: `acquire and release, of ${rounds} interleaved rounds`, rows }
  })
}

/** What the kernel does for a durable acquire and a release, by `node:fs`. */
function syncedFloor(directory) {
  const path = join(directory, 'durable.lock')
  const record = Buffer.alloc(512, ' ')
  return () => {
    const file = openSync(path, 'wx+', 0o600)
    writeSync(file, record)
    fdatasyncSync(file)
    const parent = openSync(directory, 'r')
    fsyncSync(parent)
    closeSync(parent)
    unlinkSync(path)
    closeSync(file)
  }
}

/** Acquire and release with and without `durable`, on all media in turn; returns a table for each. */
export async function durable({ media, rounds }) {
  const contenders = media.flatMap(({ name: medium, directory: parent }) => {
    const directory = join(parent, 'durable')
    mkdirSync(directory)
    const options = (durable, name) => ({ cwd: directory, file: `${name}.lock`, durable })
    const sync = (name, fn) => ({ medium, name, sample: () => measure(fn, false) })
    const async = (name, options) => ({
      ...{ medium, name },
      sample: () => measure(async () => (await acquireLock(options)).release()),
    })
    const [plain, plainAsync] = [options(false, 'sync'), options(false, 'async')]
    const [synced, syncedAsync] = [options(true, 'durable-sync'), options(true, 'durable-async')]
    return [
      sync('node:fs: write, sync, unlink', syncedFloor(directory)),
      sync('acquireLockSync', () => acquireLockSync(plain).releaseSync()),
      sync('acquireLockSync, durable', () => acquireLockSync(synced).releaseSync()),
      async('acquireLock', plainAsync),
      async('acquireLock, durable', syncedAsync),
    ]
  })
  const measured = await takeTurns(contenders, rounds)
  return media.map(({ name }) => {
    const here = measured.filter(({ medium }) => medium === name)
    const rows = here.map(({ name, samples }) => ({
      ...{ name, 'median us': median(samples) / 1000, 'min us': Math.min(...samples) / 1000, samples },
    }))
    return { medium: name, title: `acquire and release, of ${rounds} interleaved rounds`, rows }
  })
}

/** The cost of the channels; each kind in its own process, because a channel that had a subscriber stays slower. */
export async function diagnostics({ directory, rounds }) {
  const start = async (kind, name) => {
    const path = join(directory, `diagnostics-${kind}`)
    mkdirSync(path, { recursive: true })
    const worker = await Worker.start(script('pair', kind, path))
    const sample = async () => Number(await worker.ask('measure', undefined, 'mean'))
    return { name, kind, sample, compute: () => worker.ask('compute', undefined, 'computed') }
  }
  const contenders = await Promise.all([
    start('binding', 'binding alone'),
    start('silent', 'without channels'),
    start('unheard', 'no subscriber'),
    start('heard', 'a subscriber to each'),
  ])
  const measured = await takeTurns(contenders, rounds)
  // Counted in separate processes, which replace the clocks before they load the package.
  const reads = {}
  for (const kind of ['unheard', 'heard']) reads[kind] = Number(await (await start(kind)).compute())
  if (reads.heard === 0) throw new Error('messages were published, and none was seen to be computed')
  const rows = measured.map(({ name, kind, samples }) => ({
    ...{ name, 'median ns': median(samples), 'x binding': median(samples) / median(measured[0].samples) },
    ...{ reads: reads[kind] ?? '', samples },
  }))
  const title = 'acquireLockSync and releaseSync; reads: of a clock or the holder for each pair'
  return { title, rows }
}

/** Milliseconds from the start of a process to its end. */
function lifetime(path) {
  const started = performance.now()
  const { status, signal, error, stderr } = spawnSync(process.execPath, [path], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${path} failed: ${error?.message ?? signal ?? status}\n${stderr}`)
  return performance.now() - started
}

/** The time that loading an installed package adds to the start of a process. */
export async function load({ directory }) {
  const homes = { 'an empty script': '', 'reconcile-lock': root }
  homes['proper-lockfile'] = join(root, 'node_modules/proper-lockfile')
  mkdirSync(join(directory, 'load/node_modules'), { recursive: true })
  const contenders = Object.entries(homes).map(([name, home]) => {
    if (home) symlinkSync(home, join(directory, 'load/node_modules', name))
    const path = join(directory, 'load', `${name}.cjs`)
    writeFileSync(path, home && `require('${name}')\n`)
    return { name, sample: () => lifetime(path) }
  })
  const measured = await takeTurns(contenders, 30)
  const base = median(measured[0].samples)
  const rows = measured.map(({ name, samples }) => ({
    // Noise alone can make the difference negative.
    ...{ name, 'median ms': median(samples), 'added ms': Math.max(0, median(samples) - base), samples },
  }))
  return { title: 'a process from start to end, of 30 interleaved runs', rows }
}
