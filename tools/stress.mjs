// `npm run stress`: checks for overlapping holders while holders are killed and stopped.
import { randomInt } from 'node:crypto'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { machine, readOptions, wholeFrom } from './cli.mjs'
import { cleanUp, openPlace, placeNames } from './filesystems.mjs'
import { installRuntime, runtimes } from './runtimes/install.mjs'
import { stress } from './stress/driver.mjs'
import {
  collect,
  count,
  findFailures,
  findOverlaps,
  isReal,
  longestAllowed,
  longestGap,
  mostAtOnce,
} from './stress/verify.mjs'
import { prepare } from './suite.mjs'

// Windows stops no process.
const stops = process.platform === 'win32' ? {} : { stop: [60, 180], stopped: [20, 200] }
const pace = { kill: [60, 180], ...stops }
const native = { kind: 'native' }
const legacy = { kind: 'legacy' }
const processes = (member) => ({ member, processes: workers, threads: 0, pace })

const variants = {
  native: () => processes(() => native),
  // Fewer kills, because each ends many threads.
  threads: () => ({
    ...{ member: () => ({ kind: 'thread' }), processes: 2, threads: Math.ceil(workers / 2) },
    pace: { ...pace, kill: [300, 900], terminate: [60, 180] },
  }),
  slots: () => ({ ...processes(() => native), slots: 3, atOnce: 3 }),
  readers: () => ({ ...processes(() => native), readers: true, atOnce: 2 }),
  bun() {
    const { missing, execPath } = installRuntime(runtimes.find(({ kind }) => kind === 'bun'))
    if (missing) return { skipped: missing }
    // In pairs, because every other native worker waits for the lock.
    return processes((place) => (place % 4 < 2 ? native : { kind: 'bun', execPath }))
  },
  legacy: () => ({ ...processes((place) => (place % 3 === 2 ? legacy : native)), logsUnlinks: true }),
  control: () => processes(() => legacy),
}

const help = `Usage: npm run stress -- [options]

Many workers acquire, hold and release one lock, while some of them are killed, stopped and continued. Their logs show
whether two ever held it at once.

  --seconds N          how long each variant runs (default 60)
  --workers N          how many workers run, from 4 (default 16)
  --variant NAME,...   which processes take part (default native):
                         native   Node.js processes
                         threads  the worker threads of two Node.js processes
                         slots    Node.js processes that share three slots: each slot has one holder at a time
                         readers  Node.js processes of which most acquire in shared mode
                         bun      half of the processes are Bun's
                         legacy   a third of the processes use the legacy lock, which cannot be made safe: only overlaps
                                  that none of its removals explains are failures
                         control  only the legacy lock: must show overlaps
                         all      all of these on tmpfs, and native in every other place
  --on PLACE,...       where the lock file is (default tmpfs): ${placeNames.join(', ')}
  --seed N             repeats the schedule of kills and stops, and the random choices of the workers
                       (default: a random seed, which is printed)
  --no-build           the addon and the tests are built already
  --help               show this

A variant that this machine cannot run is skipped, with the reason. It exits with 1 if two held the lock at once, no
worker held it for more than 2.5 s, an error was not one that the documentation names, a file was left, no worker was
killed, no lock was taken over, or all was skipped. A failed run keeps its logs.`

const { seconds, workers, variant, on, seed, built } = readOptions(help, {
  seconds: { default: '60', read: wholeFrom(1) },
  workers: { default: '16', read: wholeFrom(4) },
  variant: { default: 'native', list: [...Object.keys(variants), 'all'] },
  on: { list: placeNames },
  seed: { default: String(randomInt(2 ** 32)), read: wholeFrom(0) },
})
prepare(built)

const isAll = variant.includes('all')
const names = isAll ? Object.keys(variants) : variant
const runs = names.flatMap((name) => (on ?? placeNames.slice(0, 1)).map((place) => ({ name, place })))
if (isAll && !on) runs.push(...placeNames.slice(1).map((place) => ({ name: 'native', place })))

/** The directory of the logs, until it is known whether the run has failed. */
let logs
// Processes that were just killed may still write.
process.on('exit', () => logs && rmSync(logs, { recursive: true, force: true, maxRetries: 10 }))

console.log(`\n${machine}\nseed ${seed}`)
const { acquireLockSync, resolveLockPath } = createRequire(import.meta.url)('reconcile-lock')

/** Whether the lock can be acquired after the run, and what else is in its directory. */
function lookAfterwards(cwd, lock, slots = 1) {
  let error
  try {
    const options = { cwd, slots, timeout: longestAllowed }
    const locks = Array.from({ length: slots }, () => acquireLockSync(options))
    for (const lock of locks) lock.releaseSync()
  } catch (thrown) {
    error = `${thrown.code}: ${thrown.message}`
  }
  return { error, left: readdirSync(cwd).filter((name) => name !== basename(lock)) }
}

const whole = (value) => value.toLocaleString('en-US')
const listed = (counts) =>
  Object.entries(counts)
    .map(([name, number]) => `${whole(number)} ${name}`)
    .join(', ') || 'none'

/** Describes two overlapping holders, in milliseconds since all workers have started. */
function describe({ first, second, pair, explained }, from) {
  const at = (time) => (Number(time - from) / 1e6).toFixed(3)
  const one = ({ worker, pid, enter, exit, outcome }) =>
    `${worker} (pid ${pid}) ${at(enter)} to ${at(exit)}, ${outcome}`
  return `    ${pair}${explained ? ' (explained)' : ''}: ${one(first)}; ${one(second)}`
}

function report(run, overlaps, failures) {
  const { name, place, intervals, refused, errors, from, to } = run
  const pairs = count(overlaps, ({ pair, explained }) => (explained ? `${pair} after a legacy unlink` : pair))
  const shown = overlaps.toSorted((a, b) => isReal(b) - isReal(a)).slice(0, 5)
  const options = `--on ${place} --seconds ${seconds} --workers ${workers} --seed ${seed}`
  return [
    `  acquisitions  ${whole(intervals.length)}: ${listed(count(intervals, ({ kind }) => kind))}`,
    `  kills         ${whole(run.kills)}, ${whole(run.holdersKilled)} of them of the holder; ${whole(run.terminations)} threads`,
    `  stops         ${whole(run.stops)}`,
    `  takeovers     ${whole(intervals.filter(({ takenOver }) => takenOver).length)}`,
    `  most at once  ${mostAtOnce(intervals)}`,
    `  overlaps      ${listed(pairs)}`,
    `  refused       ${whole(refused)}`,
    `  other errors  ${listed(count(errors, ({ kind, during, code }) => `${kind} ${during} ${code}`))}`,
    `  longest gap   ${longestGap(intervals, from, to).toFixed(1)} ms without an owner`,
    ...shown.map((overlap) => describe(overlap, from)),
    ...failures.map((failure) => `  FAILED: ${failure}`),
    ...(failures.length > 0
      ? [`  rerun: npm run stress -- --variant ${name} ${options}`, `  logs: ${logs}`]
      : []),
  ].join('\n')
}

/** Runs a variant in a place; returns its overlaps and failures, or why it was skipped. */
async function runOne({ name, place }) {
  const mix = variants[name]()
  if (mix.skipped) return mix
  const { skipped, directory: cwd, filesystem } = openPlace(place)
  if (skipped) return { skipped }
  console.log(`\n${name} on ${place} (${filesystem}): ${workers} workers, ${seconds} s`)
  const lock = resolveLockPath(cwd)
  logs = mkdtempSync(join(tmpdir(), 'reconcile-lock-logs-'))
  // The schedule of a variant does not depend on the other variants of this run.
  const ran = await stress({ mix, lock, cwd, logs, seed: `${seed} ${name} ${place}`, seconds })
  const afterwards = lookAfterwards(cwd, lock, mix.slots)
  cleanUp()
  const terminates = mix.pace.terminate !== undefined
  const about = { name, place, control: name === 'control', atOnce: mix.atOnce, terminates, afterwards }
  const run = { ...about, ...ran, ...collect(logs, ran.processes) }
  const failures = findFailures(run)
  const overlaps = findOverlaps(run.intervals, run.unlinks)
  console.log(report(run, overlaps, failures))
  if (failures.length === 0) rmSync(logs, { recursive: true })
  logs = undefined
  return { failures, overlaps: overlaps.filter(isReal).length }
}

const counts = { overlaps: 0, passed: 0, failed: 0, skipped: 0 }
for (const each of runs) {
  const { skipped, failures = [], overlaps = 0 } = await runOne(each)
  counts.overlaps += overlaps
  counts[skipped ? 'skipped' : failures.length > 0 ? 'failed' : 'passed'] += 1
  if (skipped) console.log(`\n${each.name} on ${each.place}: skipped: ${skipped}`)
}
const { overlaps, passed, failed, skipped } = counts
console.log(`\n${overlaps} overlaps\n${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exit(failed > 0 || passed === 0 ? 1 : 0)
