// `npm run bench`: the cost of a lock and of waiting for it, compared with other locks and the possible minimum.
import { execFileSync } from 'node:child_process'
import { columns, machine, readOptions, wholeFrom } from './cli.mjs'
import { openPlace } from './filesystems.mjs'
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
const places = ['tmpfs', 'disk'].map((name) => ({ name, ...openPlace(name) }))
const media = places.filter(({ skipped }) => !skipped)

// These modules import built files.
const sections = {
  ...(await import('./bench/sequence.mjs')),
  ...(await import('./bench/waiting.mjs')),
  ...(await import('./bench/growing.mjs')),
  ...(await import('./bench/postgres.mjs')),
}
const { figuresOf, judge } = await import('./bench/targets.mjs')
const { endAll } = await import('./bench/workers.mjs')

console.log(`\n${machine}`)
for (const { name, skipped } of places) if (skipped) console.log(`\n${name}: skipped, ${skipped}`)
if (media.length === 0) throw new Error('there is no place to measure in')

/** Integers, and figures from 100, without decimals. */
function format(value, decimals = Number.isInteger(value) || value >= 100 ? 0 : 2) {
  return value.toLocaleString('en-US', { minimumFractionDigits: decimals, maximumFractionDigits: decimals })
}

function print({ title, rows, chart }, section, medium) {
  const names = Object.keys(rows[0])
  const place = media.find((each) => each.name === medium)
  console.log(`\n${section} on ${medium}${place ? ` (${place.filesystem})` : ''}: ${title}`)
  console.log(columns([names, ...rows.map((row) => names.map((name) => format(row[name])))], 1))
  if (chart) console.log(`\n${chart}`)
}

const judged = []
for (const section of only) {
  // Most sections hardly depend on the medium, because a waiter does not write: they run on the first one alone.
  const tables = await sections[section]({ ...media[0], media, executables, rounds, samples })
  const figures = {}
  for (const { medium = media[0].name, ...table } of [tables].flat()) {
    print(table, section, medium)
    figures[medium] = { ...figures[medium], ...figuresOf(table.rows) }
  }
  for (const [medium, found] of Object.entries(figures)) judged.push(...judge(section, medium, found))
  await endAll()
}

const rows = judged.map(({ section, name, medium, verdict, measured }) => [
  ...[`${section}: ${name}`, medium, verdict, format(measured, 3)],
])
console.log(`\n${columns([['target', 'on', 'verdict', 'measured'], ...rows], 3)}`)
process.exit()
