// The project's tests in another runtime than the one that the project is developed with.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../steps.mjs'
import { compiledTest } from '../suite.mjs'
import { readReport } from './report.mjs'

/** A file of tests that takes longer hangs. */
const LONGEST = 5 * 60_000

/** Long enough for a file that is listed as a whole to show that it passes by now. */
const LONGEST_LISTED = 60_000

/** A failure that is not one test's. */
const WHOLE = 'the file as a whole'

/**
 * @typedef {object} Exception what cannot pass in a runtime
 * @property {string} file
 * @property {string | RegExp} [name] of a test, or of several; without it no test of the file can
 * @property {string} why
 * @property {boolean} [sometimes] whether it passes hangs on who is quicker; what says nothing counts as skipped
 *
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 */

/**
 * Runs files of tests one after the other. An exception is run like all others, so that it cannot stay on the list
 * when it passes by now, or is no more.
 * @param {{ name: string, command: (file: string, report: string) => string[], env?: NodeJS.ProcessEnv,
 *   exceptions: Exception[] }} runtime
 * @param {string[]} files names without directory and ending
 * @param {(line: string) => void} [tell]
 * @returns {Counts}
 */
export function runSuite(runtime, files, tell = console.log) {
  tell(`\n# ${runtime.name}`)
  const counts = { passed: 0, failed: 0, skipped: 0 }
  for (const file of files) {
    const exceptions = runtime.exceptions.filter((exception) => exception.file === file)
    const whole = exceptions.find(({ name }) => name === undefined)
    const began = performance.now()
    const ran = runFile(runtime, file, whole ? LONGEST_LISTED : LONGEST)
    const results = whole ? judgeWhole(ran, whole.why) : judge(ran, exceptions)
    const seconds = ((performance.now() - began) / 1000).toFixed(1)
    tell(`${file.padEnd(24)} ${add(counts, results)} (${seconds} s)`)
    for (const { name, state, about } of results)
      if (state !== 'passed') tell(`  ${state}: ${name}\n    ${about.trim().replaceAll('\n', '\n    ')}`)
  }
  return counts
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

/** @returns {import('./report.mjs').Result[]} */
function runFile({ command, env }, file, longest) {
  const directory = join(root, 'target/runtimes/reports')
  mkdirSync(directory, { recursive: true })
  const report = join(directory, `${file.replace('/', '-')}.xml`)
  rmSync(report, { force: true })
  const [program, ...args] = command(compiledTest(file), report)
  const ended = spawnSync(program, args, {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: 'utf8',
    timeout: longest,
    killSignal: 'SIGKILL',
    maxBuffer: 1 << 28,
  })
  const results = existsSync(report) ? readReport(readFileSync(report, 'utf8')) : []
  const isTold = results.some(({ state }) => state === 'failed')
  if (results.length > 0 && (ended.status === 0 || isTold)) return results
  const how = ended.error?.message ?? ended.signal ?? `exit code ${ended.status}`
  const about = `${how}, ${results.length} tests reported\n${`${ended.stdout}${ended.stderr}`.slice(-4000)}`
  return [...results, { name: WHOLE, state: 'failed', about }]
}

/**
 * What counts of the results of a file.
 * @param {import('./report.mjs').Result[]} results
 * @param {Exception[]} exceptions
 * @returns {import('./report.mjs').Result[]}
 */
function judge(results, exceptions) {
  const matches = (/** @type {Exception} */ { name }, /** @type {string} */ test) =>
    name instanceof RegExp ? name.test(test) : name === test
  const judged = results.map((result) => {
    const exception = exceptions.find((each) => matches(each, result.name))
    if (exception === undefined) return result
    if (result.state === 'failed' || exception.sometimes)
      return { ...result, state: 'skipped', about: exception.why }
    return { ...result, state: 'failed', about: 'it is listed as one that cannot pass here' }
  })
  const missing = exceptions.filter((each) => !results.some(({ name }) => matches(each, name)))
  const about = 'it is listed, and there is no such test'
  return [...judged, ...missing.map(({ name }) => ({ name: String(name), state: 'failed', about }))]
}

/**
 * @param {import('./report.mjs').Result[]} results of a file that is listed as a whole
 * @param {string} why
 * @returns {import('./report.mjs').Result[]}
 */
function judgeWhole(results, why) {
  if (results.some(({ state }) => state === 'failed')) return [{ name: WHOLE, state: 'skipped', about: why }]
  return [{ name: WHOLE, state: 'failed', about: 'it is listed as one that cannot pass here' }]
}
