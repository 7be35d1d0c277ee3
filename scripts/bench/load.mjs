// What loading the package adds to the start of a process.
import { spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../steps.mjs'
import { columns } from './report.mjs'
import { takeTurns } from './rounds.mjs'
import { median } from './statistics.mjs'

const runs = 30
const empty = 'an empty script'
const contenders = [
  { name: empty, script: '' },
  { name: 'reconcile-lock', script: "require('reconcile-lock')\n", home: root },
  {
    name: 'proper-lockfile',
    script: "require('proper-lockfile')\n",
    home: join(root, 'node_modules/proper-lockfile'),
  },
]

/** Milliseconds from the start of a process to its end. */
export function lifetime(path) {
  const started = process.hrtime.bigint()
  const { status, signal, error, stderr } = spawnSync(process.execPath, [path], {
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  })
  const ended = process.hrtime.bigint()
  if (status !== 0) throw new Error(`${path} failed: ${error?.message ?? signal ?? status}\n${stderr}`)
  return Number(ended - started) / 1e6
}

/** A project in which the contenders are installed, and a script of each. */
function prepare(parent) {
  const directory = join(parent, 'load')
  mkdirSync(join(directory, 'node_modules'), { recursive: true })
  return contenders.map(({ name, script, home }, index) => {
    if (home) symlinkSync(home, join(directory, 'node_modules', name))
    const path = join(directory, `${index}.cjs`)
    writeFileSync(path, script)
    return { sample: async () => lifetime(path) }
  })
}

export async function load({ directory }) {
  const samples = await takeTurns(prepare(directory), runs)
  const [base] = samples.map(median)
  const results = contenders.map(({ name }, index) => {
    const medianMs = median(samples[index])
    return { name, medianMs, addedMs: medianMs - base, rounds: samples[index] }
  })
  // Noise alone makes less than nothing.
  const figures = Object.fromEntries(
    results.map(({ name, addedMs }) => [`added ${name}`, Math.max(0, addedMs)]),
  )
  const rows = results.map(({ name, medianMs, addedMs }) => [
    name === empty ? name : `require('${name}')`,
    medianMs.toFixed(2),
    name === empty ? '' : addedMs.toFixed(2),
  ])
  const about = `a process from start to end, in milliseconds; median of ${runs} interleaved runs`
  return { results, figures, text: `${about}\n${columns([['script', 'median ms', 'added ms'], ...rows], 1)}` }
}
