// Measures with one process: acquire and release, refused acquires, diagnostics channels, and loading.
import { execFileSync, spawnSync } from 'node:child_process'
import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { open as openFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import flocks from 'fs-native-extensions'
import lockfile from 'lockfile'
import proper from 'proper-lockfile'
import * as legacy from '../../build/__test__/legacy/lock.mjs'
import { root } from '../steps.mjs'
import { measure, median, percentile, takeTurns } from './measure.mjs'
import { script, Worker } from './workers.mjs'

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
  const [file, fileAsync, plain] = ['file-sync', 'file-async', 'plain'].map((name) =>
    join(place(name), 'lock'),
  )
  const flocked = join(place('flocked'), 'lock')
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
    sync('fs-native-extensions sync', () => {
      const descriptor = openSync(flocked, 'w')
      if (!flocks.tryLock(descriptor)) throw new Error('the lock is held')
      flocks.unlock(descriptor)
      closeSync(descriptor)
    }),
    async(
      'fs-native-extensions async',
      async () => {
        const handle = await openFile(flocked, 'w')
        await flocks.waitForLock(handle.fd)
        return handle
      },
      (handle) => {
        flocks.unlock(handle.fd)
        return handle.close()
      },
    ),
    sync('node:fs, flag wx', () => {
      writeFileSync(plain, String(process.pid), { flag: 'wx' })
      unlinkSync(plain)
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

/** Programs of the system, with the command that shows whether they are installed. */
const programs = {
  'flock(1)': ['flock', '--version'],
  'filelock of Python': ['python3', '-c', 'import filelock'],
}
const missing = Object.entries(programs).flatMap(([name, [file, ...args]]) =>
  spawnSync(file, args).status === 0 ? [] : [name],
)

/** Contenders that are processes of their own. A pair of `flock(1)` is a process. */
function outside(parent) {
  const all = {
    'flock(1)': {
      times: 3,
      sample: () => measure(() => execFileSync('flock', [join(parent, 'flock.lock'), 'true']), false),
    },
    'filelock of Python': {
      sample: () =>
        Number(execFileSync('python3', ['-c', PYTHON, join(parent, 'python.lock'), '1000'])) / 1000,
    },
  }
  return Object.entries(all).flatMap(([name, about]) => (missing.includes(name) ? [] : [{ name, ...about }]))
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
    const path = join(directory, 'native.lock')
    const all = [
      native('floor', executables.floor, path),
      native('its system calls', executables.calls, 'pair', path),
      ...released(directory),
      ...outside(directory),
      native('its system calls, refused', executables.calls, 'refused', path),
      ...(await refused(directory)),
    ]
    contenders.push(...all.map((contender) => ({ medium, ...contender })))
  }
  const measured = await takeTurns(contenders, rounds)
  return media.map(({ name }) => {
    const here = measured.filter(({ medium }) => medium === name)
    const least = median(here[0].samples)
    const rows = here.map(({ name, samples }) => ({
      ...{ name, 'median ns': median(samples), 'p10 ns': percentile(samples, 10) },
      ...{ 'p90 ns': percentile(samples, 90), 'x floor': median(samples) / least, samples },
    }))
    const title = `acquire and release, of ${rounds} interleaved rounds${missing.map((name) => `; ${name} is not installed`).join('')}`
    return { medium: name, title, rows }
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

/** What a process prints: the milliseconds of `work`. */
function timed(work) {
  const code = `const started = process.hrtime.bigint(); ${work}
    console.log(Number(process.hrtime.bigint() - started) / 1e6)`
  return Number(execFileSync(process.execPath, ['-e', code], { cwd: root, encoding: 'utf8' }))
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
  const addon = join(
    root,
    readdirSync(root).find((name) => name.endsWith('.node')),
  )
  const inside = await takeTurns(
    [
      { name: "require('reconcile-lock')", sample: () => timed("require('reconcile-lock')") },
      {
        name: 'dlopen of its binary',
        sample: () => timed(`process.dlopen({ exports: {} }, ${JSON.stringify(addon)})`),
      },
    ],
    30,
  )
  const insideRows = inside.map(({ name, samples }) => ({ name, 'in process ms': median(samples), samples }))
  const title = 'of 30 interleaved runs'
  return [
    { title: `a process from start to end, ${title}`, rows },
    { title: `a call in a process, ${title}`, rows: insideRows },
  ]
}
