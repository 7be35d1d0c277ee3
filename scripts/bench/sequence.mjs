// What one process measures: acquire and release, refused acquires, diagnostics channels, and the start of a process.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { promisify } from 'node:util'
import lockfile from 'lockfile'
import proper from 'proper-lockfile'
import * as legacy from '../../build/__test__/legacy/lock.mjs'
import { columns } from '../cli.mjs'
import { root } from '../steps.mjs'
import { batch, measure, median, takeTurns, whole } from './measure.mjs'
import { script, Worker } from './workers.mjs'

const { acquireLock, acquireLockSync } = createRequire(import.meta.url)('reconcile-lock')
const lockfileLock = promisify(lockfile.lock)
const lockfileUnlock = promisify(lockfile.unlock)

const rounds = (number) =>
  `${number} interleaved rounds${number < 15 ? ' (fewer than 15: only good for a quick look)' : ''}, ${batch} ms each`

/** `benches/floor.rs`, started anew in every round, for so long that the start of a process does not matter. */
function floor(executable, path) {
  const each = (iterations) =>
    Number(execFileSync(executable, [path, String(iterations)], { encoding: 'utf8' })) / iterations
  const iterations = Math.ceil(150e6 / each(1000))
  return { operation: '', name: 'floor', sample: () => each(iterations) }
}

/** Acquire and release; every contender has a directory of its own. */
function released(parent) {
  const place = (name) => {
    const path = join(parent, name)
    mkdirSync(path)
    return path
  }
  // proper-lockfile locks a file that exists, by a directory beside it.
  const subject = (name) => {
    const path = join(place(name), 'subject.json')
    writeFileSync(path, '{}')
    return path
  }
  const [own, ownAsync, old] = ['own-sync', 'own-async', 'legacy'].map(place)
  const [properSync, properAsync] = ['proper-sync', 'proper-async'].map(subject)
  const [file, fileAsync] = ['file-sync', 'file-async'].map((name) => join(place(name), 'lock'))
  const sync = (name, fn) => ({ operation: 'pair', name, fn })
  const async = (name, acquire, release) => ({
    operation: 'pair',
    name,
    async: true,
    fn: async () => release(await acquire()),
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

// Another outcome would be measured for the wrong thing.
function expectRefusal(error) {
  if (!error.message.startsWith('Another reconcile run is in progress')) throw error
}
const acquired = () => {
  throw new Error('a held lock was acquired')
}

/** Refused acquires, and what holds their locks. */
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
  const async = (name, acquire) => ({ name, async: true, fn: () => acquire().then(acquired, expectRefusal) })
  return [
    { name: 'acquireLockSync', fn: refusedSync },
    async('acquireLock', () => acquireLock(own)),
    async('legacy lock', () => legacy.acquireLock(old)),
  ].map((contender) => ({ operation: 'refused', ...contender }))
}

/** Measures on all media in turn; a result for each. */
export async function pairs({ media, executables, rounds: number }) {
  const contenders = []
  for (const { name: medium, directory } of media) {
    const measured = [...released(directory), ...(await refused(directory))]
    const all = measured.map((contender) => ({ ...contender, sample: () => measure(contender) }))
    for (const contender of [floor(executables.floor, join(directory, 'floor.lock')), ...all])
      contenders.push({ medium, ...contender })
  }
  const samples = await takeTurns(contenders, number)
  return media.map(({ name: medium }) => {
    const here = contenders.flatMap(({ operation, name, ...contender }, index) =>
      contender.medium === medium
        ? [{ operation, name, medianNs: median(samples[index]), rounds: samples[index] }]
        : [],
    )
    const results = here.map((each) => ({ ...each, ratio: each.medianNs / here[0].medianNs }))
    const rows = results.map(({ operation, name, medianNs, rounds, ratio }) => [
      { '': '', pair: 'acquire + release', refused: 'refused acquire' }[operation],
      ...[name, whole(medianNs), whole(Math.min(...rounds)), ratio.toFixed(2)],
    ])
    return {
      ...{ medium, results },
      figures: Object.fromEntries(
        results.map(({ operation, name, medianNs }) => [`${operation} ${name}`.trim(), medianNs]),
      ),
      text: `nanoseconds per operation; ${rounds(number)}\n${columns(
        [['operation', 'contender', 'median ns', 'min ns', 'x floor'], ...rows],
        2,
      )}`,
    }
  })
}

/** What the channels cost: each kind in a process, as a channel that once had a subscriber stays slower. */
export async function diagnostics({ directory, rounds: number }) {
  const start = async (kind, name) => {
    const path = join(directory, `diagnostics-${kind}`)
    mkdirSync(path, { recursive: true })
    const worker = await Worker.start(script('pair', kind, path))
    const sample = async () => Number(await worker.ask('measure', undefined, 'mean'))
    return { name, sample, compute: async () => Number(await worker.ask('compute', undefined, 'computed')) }
  }
  const contenders = await Promise.all([
    start('binding', 'binding alone'),
    start('silent', 'without channels'),
    start('unheard', 'no subscriber'),
    start('heard', 'a subscriber to each'),
  ])
  const samples = await takeTurns(contenders, number)
  const results = contenders.map(({ name }, index) => ({
    ...{ name, medianNs: median(samples[index]), rounds: samples[index] },
  }))
  // Counted in processes of their own, which replace the clocks before they load the package.
  const [unheard, heard] = await Promise.all(['unheard', 'heard'].map((kind) => start(kind)))
  const computed = { unheard: await unheard.compute(), heard: await heard.compute() }
  if (computed.heard === 0) throw new Error('messages were published, and none was seen to be computed')
  const figures = Object.fromEntries(results.map(({ name, medianNs }) => [name, medianNs]))
  figures['computed without a subscriber'] = computed.unheard
  const rows = results.map(({ name, medianNs }) => [
    ...[name, whole(medianNs), (medianNs / results[0].medianNs).toFixed(3)],
  ])
  const text = [
    `what the diagnostics channels cost; ${rounds(number)}`,
    columns([['acquireLockSync + releaseSync', 'median ns', 'x binding'], ...rows], 1),
    `  reads of a clock or the holder for each pair: ${computed.unheard} without a subscriber, ${computed.heard} with one to each`,
  ]
  return { results: { pairs: results, computed }, figures, text: text.join('\n') }
}

/** Milliseconds from the start of a process to its end. */
function lifetime(path) {
  const started = performance.now()
  const { status, signal, error, stderr } = spawnSync(process.execPath, [path], { encoding: 'utf8' })
  const ended = performance.now()
  if (status !== 0) throw new Error(`${path} failed: ${error?.message ?? signal ?? status}\n${stderr}`)
  return ended - started
}

/** What loading a package adds to the start of a process, in a project in which it is installed. */
export async function load({ directory }) {
  const homes = {
    '': undefined,
    'reconcile-lock': root,
    'proper-lockfile': join(root, 'node_modules/proper-lockfile'),
  }
  const runs = 30
  mkdirSync(join(directory, 'load/node_modules'), { recursive: true })
  const contenders = Object.entries(homes).map(([name, home]) => {
    if (home) symlinkSync(home, join(directory, 'load/node_modules', name))
    const path = join(directory, 'load', `${name || 'empty'}.cjs`)
    writeFileSync(path, name && `require('${name}')\n`)
    return { name: name || 'an empty script', sample: () => lifetime(path) }
  })
  const samples = await takeTurns(contenders, runs)
  const base = median(samples[0])
  const results = contenders.map(({ name }, index) => {
    const medianMs = median(samples[index])
    return { name, medianMs, addedMs: medianMs - base, rounds: samples[index] }
  })
  const rows = results.map(({ name, medianMs, addedMs }, index) => [
    ...(index === 0
      ? [name, medianMs.toFixed(2), '']
      : [`require('${name}')`, medianMs.toFixed(2), addedMs.toFixed(2)]),
  ])
  return {
    results,
    // Noise alone makes less than nothing.
    figures: Object.fromEntries(results.map(({ name, addedMs }) => [`added ${name}`, Math.max(0, addedMs)])),
    text: `a process from start to end, in milliseconds; median of ${runs} interleaved runs\n${columns(
      [['script', 'median ms', 'added ms'], ...rows],
      1,
    )}`,
  }
}
