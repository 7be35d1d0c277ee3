// `npm run bench`: what a lock costs and how long it is waited for, beside other locks and the least possible.
import { rmSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { buildBenches } from './bench/cargo.mjs'
import { diagnostics } from './bench/diagnostics.mjs'
import { fairness } from './bench/fairness.mjs'
import { handover, killed } from './bench/handover.mjs'
import { idle } from './bench/idle.mjs'
import { load } from './bench/load.mjs'
import { media as findMedia } from './bench/media.mjs'
import { help, readOptions, UsageError } from './bench/options.mjs'
import { pairs } from './bench/pairs.mjs'
import { endAll } from './bench/peers.mjs'
import { postgres } from './bench/postgres.mjs'
import { verdicts } from './bench/report.mjs'
import { judge } from './bench/targets.mjs'
import { wakeups } from './bench/wakeups.mjs'
import { build, install, root, run } from './steps.mjs'

function options() {
  try {
    return readOptions(process.argv.slice(2))
  } catch (error) {
    if (!(error instanceof UsageError)) throw error
    console.error(`${error.message}\n\n${help}`)
    process.exit(2)
  }
}

const chosen = options()
if (chosen.help) {
  console.log(help)
  process.exit(0)
}

if (!chosen.built) {
  install()
  build()
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.'])
}
const natives = { pairs: 'floor', handover: 'flock', killed: 'flock' }
const needed = chosen.sections.map((name) => natives[name]).filter((name) => name !== undefined)
const executables = buildBenches([...new Set(needed)])

const media = findMedia()
const present = media.filter(({ skipped }) => !skipped)
const skipped = Object.fromEntries(media.map(({ name, skipped }) => [name, skipped]))
process.on('exit', () => {
  // A process that was killed just now may be about to make a file.
  for (const { directory } of present)
    rmSync(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 })
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

/** Those that wait are measured on one medium: waiting does not write. */
const onFirst =
  (section) =>
  async ({ media: [first], ...about }) => [
    { medium: first.name, ...(await section({ ...about, directory: first.directory })) },
  ]

const sections = {
  pairs,
  handover: onFirst(handover),
  killed: onFirst(killed),
  fairness: onFirst(fairness),
  wakeups: onFirst(wakeups),
  diagnostics: onFirst(diagnostics),
  idle: onFirst(idle),
  load: onFirst(load),
  postgres,
}

const machine = `Node ${process.versions.node}, ${process.platform} ${process.arch}, ${cpus().length} x ${cpus()[0]?.model}`
console.log(`\n${machine}`)
for (const { name, skipped } of media) if (skipped) console.log(`\n${name}: skipped, ${skipped}`)
if (present.length === 0) {
  console.error('There is no place to measure in.')
  process.exit(1)
}

const { rounds, samples } = chosen
const results = {}
const figures = {}
for (const name of chosen.sections) {
  const started = performance.now()
  const measured = await sections[name]({ media: present, executables, rounds, samples })
  results[name] = measured.map(({ medium, results }) => ({ medium, results }))
  figures[name] = Object.fromEntries(measured.map(({ medium, figures }) => [medium, figures]))
  const seconds = ((performance.now() - started) / 1000).toFixed(0)
  for (const { medium, text } of measured) {
    const place = media.find((each) => each.name === medium)
    const where = place ? `${medium} (${place.filesystem}, ${place.parent})` : medium
    console.log(`\n${name} on ${where}: ${text}`)
  }
  console.log(`  (${seconds} s)`)
  await endAll()
}

const judged = judge(figures, skipped)
console.log(`\n${verdicts(judged)}`)

if (chosen.json) {
  const where = media.map(({ name, filesystem, skipped }) => ({ name, filesystem, skipped }))
  const date = new Date().toISOString()
  const report = { date, machine, rounds, samples, media: where, results, targets: judged }
  writeFileSync(chosen.json, `${JSON.stringify(report, null, 2)}\n`)
}
process.exit(chosen.check && judged.some(({ verdict }) => verdict === 'missed') ? 1 : 0)
