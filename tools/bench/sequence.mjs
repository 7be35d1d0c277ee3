// Measures with one process: acquire and release, refused acquires, diagnostics channels, and loading.
import { execFileSync, spawnSync } from 'node:child_process'
import * as fs from 'node:fs'
import { open as openFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import flocks from 'fs-native-extensions'
import lockfile from 'lockfile'
import proper from 'proper-lockfile'
import * as legacy from '../../build/__test__/legacy/lock.mjs'
import { root } from '../steps.mjs'
import { measure, median, percentile, rowsOf, takeTurns } from './measure.mjs'
import { command, makePlace, Worker } from './workers.mjs'

const { acquireLock, acquireLockSync } = createRequire(import.meta.url)('reconcile-lock')
const lockfileLock = promisify(lockfile.lock)
const lockfileUnlock = promisify(lockfile.unlock)

/** A program of `benches/`, a new process in every round, with so many iterations that its start does not matter. */
function native(name, executable, ...args) {
  const each = (iterations) =>
    Number(execFileSync(executable, [...args, String(iterations)], { encoding: 'utf8' })) / iterations
  const iterations = Math.ceil(150e6 / each(1000))
  return { name, sample: () => each(iterations) }
}

const sync = (name, fn) => ({ name, sample: () => measure(fn, false) })
const async = (name, fn) => ({ name, sample: () => measure(fn) })

/** Acquire and release. */
function released(parent) {
  const place = makePlace(parent)
  const [file, flocked, plain, subject] = ['file', 'flocked', 'plain', 'subject'].map((name) =>
    join(place, name),
  )
  // proper-lockfile locks an existing file by a directory beside it.
  fs.writeFileSync(subject, '{}')
  return [
    sync('acquireLockSync', () => acquireLockSync(place).releaseSync()),
    async('acquireLock', async () => (await acquireLock(place)).release()),
    async('legacy lock', async () => {
      await legacy.acquireLock(place)
      await legacy.releaseLock(place)
    }),
    sync('proper-lockfile sync', () => {
      proper.lockSync(subject)
      proper.unlockSync(subject)
    }),
    async('proper-lockfile async', async () => {
      await proper.lock(subject)
      await proper.unlock(subject)
    }),
    sync('lockfile sync', () => {
      lockfile.lockSync(file)
      lockfile.unlockSync(file)
    }),
    async('lockfile async', async () => {
      await lockfileLock(file)
      await lockfileUnlock(file)
    }),
    sync('fs-native-extensions sync', () => {
      const descriptor = fs.openSync(flocked, 'w')
      if (!flocks.tryLock(descriptor)) throw new Error('the lock is held')
      flocks.unlock(descriptor)
      fs.closeSync(descriptor)
    }),
    async('fs-native-extensions async', async () => {
      const handle = await openFile(flocked, 'w')
      await flocks.waitForLock(handle.fd)
      flocks.unlock(handle.fd)
      await handle.close()
    }),
    sync('node:fs, flag wx', () => {
      fs.writeFileSync(plain, String(process.pid), { flag: 'wx' })
      fs.unlinkSync(plain)
    }),
  ]
}

/** The pair of `filelock`, which has the same loop as `measure`. */
const PYTHON = `import sys, time, filelock
lock = filelock.FileLock(sys.argv[1])
count = int(sys.argv[2])
start = time.perf_counter_ns()
for _ in range(count):
    lock.acquire()
    lock.release()
print(time.perf_counter_ns() - start)`

const hasFilelock = spawnSync('python3', ['-c', 'import filelock']).status === 0

/** A pair of `flock(1)` is a process. */
function outside(parent) {
  const flock = () => execFileSync('flock', [join(parent, 'flock.lock'), 'true'])
  const python = () => execFileSync('python3', ['-c', PYTHON, join(parent, 'python.lock'), '1000'])
  return [
    { ...sync('flock(1)', flock), times: 3 },
    ...(hasFilelock ? [{ name: 'filelock of Python', sample: () => Number(python()) / 1000 }] : []),
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
    const path = makePlace(parent)
    const holder = await Worker.start(command(kind, path))
    await holder.hold()
    return path
  }
  const [own, old] = [await held('own'), await held('legacy')]
  const refusedSync = () => {
    try {
      acquireLockSync(own)
    } catch (error) {
      return expectRefusal(error)
    }
    return acquired()
  }
  return [
    sync('acquireLockSync, refused', refusedSync),
    async('acquireLock, refused', () => acquireLock(own).then(acquired, expectRefusal)),
    async('legacy lock, refused', () => legacy.acquireLock(old).then(acquired, expectRefusal)),
  ]
}

/** Measures on all media in turn; returns a table for each. */
async function onEach(media, rounds, contendersIn, summarize) {
  const contenders = []
  for (const { name: medium, directory } of media)
    for (const contender of await contendersIn(directory)) contenders.push({ medium, ...contender })
  const measured = await takeTurns(contenders, rounds)
  const title = `acquire and release, of ${rounds} interleaved rounds`
  return media.map(({ name: medium }) => {
    const here = measured.filter((each) => each.medium === medium)
    return { medium, title, rows: rowsOf(here, summarize) }
  })
}

export async function pairs({ media, executables, rounds }) {
  const contendersIn = async (directory) => {
    const path = join(directory, 'native.lock')
    return [
      native('floor', executables.floor, path),
      native('its system calls', executables.calls, 'pair', path),
      ...released(directory),
      ...outside(directory),
      native('its system calls, refused', executables.calls, 'refused', path),
      ...(await refused(directory)),
    ]
  }
  return onEach(media, rounds, contendersIn, (samples, floor) => ({
    ...{ 'median ns': median(samples), 'p10 ns': percentile(samples, 10) },
    ...{ 'p90 ns': percentile(samples, 90), 'x floor': median(samples) / median(floor) },
  }))
}

/** The system calls of a durable acquire and a release, by `node:fs`. */
function syncedFloor(directory) {
  const path = join(directory, 'durable.lock')
  const record = Buffer.alloc(512, ' ')
  return () => {
    const file = fs.openSync(path, 'wx+', 0o600)
    fs.writeSync(file, record)
    fs.fdatasyncSync(file)
    const parent = fs.openSync(directory, 'r')
    fs.fsyncSync(parent)
    fs.closeSync(parent)
    fs.unlinkSync(path)
    fs.closeSync(file)
  }
}

/** Acquire and release with and without `durable`. */
export function durable({ media, rounds }) {
  const contendersIn = (parent) => {
    const cwd = makePlace(parent)
    const synced = { cwd, durable: true }
    return [
      sync('node:fs: write, sync, unlink', syncedFloor(cwd)),
      sync('acquireLockSync', () => acquireLockSync(cwd).releaseSync()),
      sync('acquireLockSync, durable', () => acquireLockSync(synced).releaseSync()),
      async('acquireLock', async () => (await acquireLock(cwd)).release()),
      async('acquireLock, durable', async () => (await acquireLock(synced)).release()),
    ]
  }
  return onEach(media, rounds, contendersIn, (samples) => ({
    'median us': median(samples) / 1000,
    'min us': Math.min(...samples) / 1000,
  }))
}

/** The cost of the channels; each kind in its own process, because a channel that had a subscriber stays slower. */
export async function diagnostics({ directory, rounds }) {
  const start = async (kind, name) => {
    const worker = await Worker.start(command(kind, makePlace(directory)))
    return { name, sample: () => worker.ask('pair') }
  }
  const contenders = await Promise.all([
    start('binding', 'binding alone'),
    start('silent', 'without channels'),
    start('unsubscribed', 'no subscriber'),
    start('subscribed', 'a subscriber to each'),
  ])
  const measured = await takeTurns(contenders, rounds)
  const rows = rowsOf(measured, (samples, binding) => ({
    'median ns': median(samples),
    'x binding': median(samples) / median(binding),
  }))
  return { title: 'acquireLockSync and releaseSync', rows }
}

/** Milliseconds from the start of a process to its end. */
function lifetime(code) {
  const started = performance.now()
  execFileSync(process.execPath, ['-e', code], { cwd: root })
  return performance.now() - started
}

/** The milliseconds of `work`, as a new process prints them. */
function timed(work) {
  const code = `const started = process.hrtime.bigint(); ${work}
    console.log(Number(process.hrtime.bigint() - started) / 1e6)`
  return Number(execFileSync(process.execPath, ['-e', code], { cwd: root }))
}

/** The time that loading an installed package adds to the start of a process. */
export async function load() {
  const addon = fs.readdirSync(root).find((name) => name.endsWith('.node'))
  const [own, proper] = ["require('reconcile-lock')", "require('proper-lockfile')"]
  const dlopen = `process.dlopen({ exports: {} }, ${JSON.stringify(join(root, addon))})`
  const contenders = [
    { name: 'an empty script', sample: () => lifetime('') },
    { name: 'reconcile-lock', sample: () => lifetime(own) },
    { name: 'proper-lockfile', sample: () => lifetime(proper) },
    { name: own, sample: () => timed(own) },
    { name: 'dlopen of its binary', sample: () => timed(dlopen) },
  ]
  const measured = await takeTurns(contenders, 30)
  const processes = rowsOf(measured.slice(0, 3), (samples, empty) => ({
    'median ms': median(samples),
    // Noise alone can make the difference negative.
    'added ms': Math.max(0, median(samples) - median(empty)),
  }))
  const calls = rowsOf(measured.slice(3), (samples) => ({ 'in process ms': median(samples) }))
  return [
    { title: 'a process from start to end, of 30 interleaved runs', rows: processes },
    { title: 'a call in a process, of 30 interleaved runs', rows: calls },
  ]
}
