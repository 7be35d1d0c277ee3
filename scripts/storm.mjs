// `npm run storm`: whether two ever hold the lock at once while its holders are killed and stopped.
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { cleanUp, openPlace } from './places.mjs'
import { build, install, root, run } from './steps.mjs'
import { collect } from './storm/collect.mjs'
import { killAll, storm } from './storm/driver.mjs'
import { exitCode, findFailures, judge, longestAllowed } from './storm/judge.mjs'
import { help, readOptions, UsageError } from './storm/options.mjs'
import { report, summary, table } from './storm/report.mjs'
import { mixOf } from './storm/variants.mjs'

function options() {
  try {
    return readOptions(process.argv.slice(2))
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    console.error(`${error.message}\n\n${help}`)
    process.exit(2)
  }
}

/** The old peer is a TypeScript file among the tests. */
function compileOldPeer() {
  const source = join(root, '__test__/legacy/lock.mts')
  const compiled = join(root, 'build/__test__/legacy/lock.mjs')
  if (existsSync(compiled) && statSync(compiled).mtimeMs >= statSync(source).mtimeMs) return
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.json'])
}

/** What the next run finds: the lock must be there to acquire, and nothing else in its directory. */
function lookAfterwards(addon, cwd, lock) {
  const before = performance.now()
  let error
  try {
    addon.acquireLockSync({ cwd, timeout: longestAllowed }).releaseSync()
  } catch (thrown) {
    error = `${thrown.code}: ${thrown.message}`
  }
  const milliseconds = performance.now() - before
  const left = readdirSync(cwd).filter((name) => name !== basename(lock))
  return { milliseconds, error, left }
}

/** Where the workers of the variant that runs write. */
let logs

/** One variant in one place, from its mount to its figures. */
async function runOne({ name, on }, { seconds, workers, seed, keep }, addon) {
  const mix = mixOf(name, workers)
  if (mix.skipped) return { name, on, ...mix }
  const place = await openPlace(on)
  if (place.skipped) return { name, on, ...place }
  console.log(`\n${name} on ${on} (${place.filesystem}): ${workers} workers, ${seconds} s`)
  const cwd = place.directory
  const lock = addon.resolveLockPath(cwd)
  logs = mkdtempSync(join(tmpdir(), 'reconcile-lock-storm-logs-'))
  const progress = (text) => process.stderr.write(`  ${name} on ${on}: ${text}\n`)
  // The schedule of a variant does not depend on the other variants of this run.
  const own = `${seed} ${name} ${on}`
  const ran = await storm({ mix, lock, cwd, logs, seed: own, seconds }, progress)
  const afterwards = lookAfterwards(addon, cwd, lock)
  cleanUp()
  const collected = collect(logs, ran.processes)
  const figures = {
    name,
    on,
    seconds,
    workers,
    seed,
    control: name === 'control',
    ...ran,
    ...judge({ ...ran, ...collected }),
    afterwards,
  }
  console.log(report(figures))
  if (keep || findFailures(figures).length > 0) console.log(`  logs: ${logs}`)
  else rmSync(logs, { recursive: true })
  return figures
}

const chosen = options()
if (chosen.help) {
  console.log(help)
  process.exit(0)
}
if (!chosen.built) {
  install()
  build()
}
compileOldPeer()

let interrupted = false
process.on('exit', () => {
  killAll()
  cleanUp()
  // Those that were killed just now may still write.
  if (interrupted && logs) rmSync(logs, { recursive: true, force: true, maxRetries: 10 })
})
for (const signal of ['SIGINT', 'SIGTERM'])
  process.on(signal, () => {
    interrupted = true
    process.exit(1)
  })

console.log(
  `\nNode ${process.versions.node}, ${process.platform} ${process.arch}, ${cpus().length} x ${cpus()[0]?.model}`,
)
console.log(`seed ${chosen.seed}`)
// Only now is there anything to load.
const addon = createRequire(import.meta.url)(`${root}dist/index.js`)
const runs = []
for (const each of chosen.runs) {
  const figures = await runOne(each, chosen, addon)
  if (figures.skipped) console.log(`\n${each.name} on ${each.on}: skipped: ${figures.skipped}`)
  runs.push(figures)
}
console.log(`\n${table(runs)}\n\n${summary(runs)}`)
process.exit(exitCode(runs))
