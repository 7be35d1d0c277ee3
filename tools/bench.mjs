// `npm run bench`: the cost of a lock and of waiting for it, compared with other locks and the possible minimum.
import { execFileSync } from 'node:child_process'
import { columns, machine, readOptions, wholeFrom } from './cli.mjs'
import { cleanUp, openPlace } from './filesystems.mjs'
import { root } from './steps.mjs'
import { prepare } from './suite.mjs'

const sectionNames =
  'pairs durable handover killed fairness wakeups diagnostics idle growth memory load postgres'.split(' ')
const help = `Usage: npm run bench -- [options]

  --only NAME,...  what to measure (default: all of it)
                     pairs        acquire and release, and refused acquires, beside other locks
                     durable      acquire and release with and without the option durable
                     handover     from a release until a waiting process holds the lock
                     killed       from SIGKILL of the holder until a waiting process holds the lock
                     fairness     16 processes that each want the lock 200 times
                     wakeups      processor time that a release costs each process that is not next
                     diagnostics  what the diagnostics channels cost, with and without subscribers
                     idle         processor time and threads of 200 waiters
                     growth       cost beside many held locks, waiters, paths and processes, also as charts in Mermaid
                     memory       bytes of a held lock and of a waiter
                     load         what require('reconcile-lock') adds to the start of a process
                     postgres     pairs and handover by locks on PostgreSQL
  --rounds N       how often pairs, durable, diagnostics and postgres run each contender (default 21; the median is
                   reported)
  --samples N      how often handover, killed and postgres run each fast contender (default 200; a p99 takes 200);
                   the slow ones run less often
  --no-build       the addon and the tests are built already
  --help           show this`

const { only, rounds, samples, built } = readOptions(help, {
  only: { default: sectionNames.join(), list: sectionNames },
  rounds: { default: '21', read: wholeFrom(1) },
  samples: { default: '200', read: wholeFrom(1) },
})
prepare(built)

/** Builds the native contenders, `benches/*.rs`; returns their paths by name. */
function buildBenches() {
  const args = ['bench', '--locked', '--bench', '*', '--no-run', '--message-format=json-render-diagnostics']
  const stdio = ['ignore', 'pipe', 'inherit']
  const printed = execFileSync('cargo', args, { cwd: root, encoding: 'utf8', stdio, maxBuffer: 2 ** 28 })
  const messages = printed.split('\n').flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
  const executables = messages.filter(({ executable }) => executable)
  return Object.fromEntries(executables.map(({ executable, target }) => [target.name, executable]))
}

const needsNative = ['pairs', 'handover', 'killed'].some((name) => only.includes(name))
const executables = needsNative ? buildBenches() : {}
process.on('exit', cleanUp)
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))
const places = []
for (const name of ['tmpfs', 'disk']) places.push({ name, ...(await openPlace(name)) })
const media = places.filter(({ skipped }) => !skipped)

// These modules import built files.
const { pairs, durable, diagnostics, load } = await import('./bench/sequence.mjs')
const waiting = await import('./bench/waiting.mjs')
const growing = await import('./bench/growing.mjs')
const { postgres } = await import('./bench/postgres.mjs')
const { figuresOf, judge } = await import('./bench/targets.mjs')
const { endAll } = await import('./bench/workers.mjs')

/** Sections that run on one medium only: they hardly depend on it, because a waiter does not write. */
const first = { ...waiting, ...growing, diagnostics, load }
const sections = { pairs, durable, postgres }
for (const [name, section] of Object.entries(first))
  sections[name] = async (setting) =>
    [await section({ ...setting, ...media[0] })].flat().map((table) => ({ medium: media[0].name, ...table }))

console.log(`\n${machine}`)
for (const { name, skipped } of places) if (skipped) console.log(`\n${name}: skipped, ${skipped}`)
if (media.length === 0) throw new Error('there is no place to measure in')

const format = (value) => {
  if (typeof value === 'string') return value
  return Number.isInteger(value) || value >= 100
    ? Math.round(value).toLocaleString('en-US')
    : value.toFixed(2)
}
function print({ medium, title, rows, chart, reason = '' }, section) {
  const [first = {}] = rows
  const names = Object.keys(first).filter((name) => name !== 'samples' && name !== 'count')
  const place = media.find((each) => each.name === medium)
  console.log(
    `\n${section} on ${medium}${place ? ` (${place.filesystem})` : ''}: ${title}${reason && `, ${reason}`}`,
  )
  if (rows.length > 0)
    console.log(columns([names, ...rows.map((row) => names.map((name) => format(row[name])))], 1))
  if (chart) console.log(`\n${chart}`)
}

const figures = {}
for (const section of only) {
  figures[section] = {}
  for (const table of await sections[section]({ media, executables, rounds, samples })) {
    print(table, section)
    const { medium, rows, reason } = table
    figures[section][medium] = reason ?? { ...figures[section][medium], ...figuresOf(rows) }
  }
  await endAll()
}

const targets = judge(figures, Object.fromEntries(places.map(({ name, skipped }) => [name, skipped])))
const rows = targets.map(({ section, name, medium, measured, verdict, reason }) => [
  ...[`${section}: ${name}`, medium, verdict, measured?.toFixed(3) ?? `(${reason})`],
])
console.log(`\n${columns([['target', 'on', 'verdict', 'measured'], ...rows], 3)}`)
process.exit()
