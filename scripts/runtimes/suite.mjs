// The project's tests in another runtime than the one that the project is developed with.
import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { root } from '../steps.mjs'
import { compiledTest, folders } from '../suite.mjs'
import { readReport } from './report.mjs'

/** A file of tests that takes longer hangs, unless its runtime sets another deadline, in milliseconds. */
const DEADLINE = 10 * 60_000

/** A failure that is not one test's. */
const WHOLE = 'the file as a whole'

/** What `__test__/support/known-failure.mts` prints of a test that cannot pass. */
const KNOWN_FAILURE = /^known failure: (.+?): (.+)$/gm

/**
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 * @typedef {Counts & { failures: string[] }} Outcome with what was printed of each test that failed
 *
 * @typedef {object} Runtime
 * @property {string} name
 * @property {(file: string, report: string) => string[]} command the words that run a file and write a report
 * @property {NodeJS.ProcessEnv} [env]
 * @property {number} [concurrency] how many files run at once
 * @property {number} [deadline] after which a file is killed, in milliseconds
 */

/**
 * Runs files of tests, several at once.
 * @param {Runtime} runtime
 * @param {string[]} files as `folder/name`
 * @param {(line: string) => void} [print]
 * @returns {Promise<Outcome>}
 */
export async function runSuite(runtime, files, print = console.log) {
  print(`\n# ${runtime.name}`)
  const counts = { passed: 0, failed: 0, skipped: 0 }
  const failures = []
  // The longest first, so that none of them runs alone in the end.
  const isLong = (/** @type {string} */ file) => Number(folders[file.split('/')[0]]?.long ?? false)
  const waiting = files.toSorted((a, b) => isLong(b) - isLong(a))
  const worker = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const began = performance.now()
      const results = await runFile(runtime, file)
      const seconds = ((performance.now() - began) / 1000).toFixed(1)
      print(`${file.padEnd(28)} ${add(counts, results)} (${seconds} s)`)
      for (const { name, state, about } of results.filter((one) => one.state !== 'passed')) {
        const why = about.trim() || 'the report of this runtime gives no reason; that of npm test does'
        print(`  ${state}: ${name}\n    ${why.replaceAll('\n', '\n    ')}`)
        if (state === 'failed')
          failures.push(`${runtime.name}, ${file}: ${name}\n  ${why.replaceAll('\n', '\n  ')}`)
      }
    }
  }
  const { concurrency = 2 * availableParallelism() } = runtime
  await Promise.all(Array.from({ length: concurrency }, worker))
  return { ...counts, failures }
}

/**
 * Adds results to the counts, and gives what was added in words.
 * @param {Counts} counts
 * @param {import('./report.mjs').Result[]} results
 */
function add(counts, results) {
  for (const { state } of results) counts[state] += 1
  const states = Object.keys(counts).map((state) => [
    state,
    results.filter((one) => one.state === state).length,
  ])
  return states.flatMap(([state, number]) => (number > 0 ? [`${number} ${state}`] : [])).join(', ')
}

/** @returns {Promise<import('./report.mjs').Result[]>} */
async function runFile({ command, env, deadline = DEADLINE }, file) {
  const directory = join(root, 'target/runtimes/reports')
  mkdirSync(directory, { recursive: true })
  const report = join(directory, `${file.replace('/', '-')}.xml`)
  rmSync(report, { force: true })
  const words = command(compiledTest(file), report)
  const { output, end } = await runProgram(words, { env, deadline, log: report.replace(/xml$/, 'log') })
  const results = existsSync(report) ? readReport(readFileSync(report, 'utf8')) : []
  // Deno's report counts a test as passed that was skipped.
  for (const [, name, why] of output.matchAll(KNOWN_FAILURE)) {
    const known = results.find((result) => result.name === name && result.state !== 'failed')
    if (known) Object.assign(known, { state: 'skipped', about: why })
  }
  const isReported = results.some(({ state }) => state === 'failed')
  if (results.length > 0 && (end === undefined || isReported)) return results
  const about = `${end ?? 'exit code 0'}, ${results.length} tests reported\n${output.slice(-4000)}`
  return [...results, { name: WHOLE, state: 'failed', about }]
}

/** Runs a program; `end` says how it ended, unless with 0. */
async function runProgram([program, ...args], { env, deadline, log }) {
  // Not pipes: a process that a test has left would keep them open.
  const file = openSync(log, 'w')
  const child = spawn(program, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', file, file],
    timeout: deadline,
    killSignal: 'SIGKILL',
  })
  closeSync(file)
  const end = await new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('exit', (code, signal) => resolve(code === 0 ? undefined : (signal ?? `exit code ${code}`)))
  })
  return { output: readFileSync(log, 'utf8'), end }
}
