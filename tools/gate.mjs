// Runs the stages of the gate, reads the tests from the output of their commands, and makes the table at the end.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { constants, setPriority } from 'node:os'
import { root } from './steps.mjs'

/**
 * @typedef {object} Stage
 * @property {string} name
 * @property {true} [long] `npm run test:all` runs it, `npm test` does not
 * @property {true} [background] computes, so it runs beside the other long stages, which mostly wait
 * @property {true} [hasTests] the stage fails if it counts no test
 * @property {{ command: string, args: string[], env?: NodeJS.ProcessEnv }[]} commands one after the other
 *
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 * @typedef {{ name: string, seconds: number }} Timed
 * @typedef {Counts & { name: string, seconds: number, longest: Timed[], end?: string }} Result `end`: the last lines of a
 *   failed stage
 */

/** `test name ... ok <1.234s>` by `--report-time` of Cargo, `✔ name (12.3ms)` by the reporter `spec` of Node.js. */
const TESTS = [
  [/^test (\S+) \.\.\. ok <([\d.]+)s>$/gm, 1],
  [/^\s*✔ (.+) \(([\d.]+)ms\)/gm, 1000],
]
/** The totals of Cargo, and the last line of this project's tools. */
const TOTALS = [
  /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/gm,
  /^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$/gm,
]
const NODE_TOTAL = /^ℹ (pass|fail|cancelled|skipped|todo) (\d+)$/gm
const STATES = { pass: 'passed', fail: 'failed', cancelled: 'failed', skipped: 'skipped', todo: 'skipped' }

/**
 * Counts the tests in the output of a command.
 * @returns {Counts & { tests: Timed[] }}
 */
export function readOutput(/** @type {string} */ output) {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours begin with one
  const text = output.replaceAll(/\u001b\[[\d;]*m/g, '')
  const counts = { passed: 0, failed: 0, skipped: 0 }
  for (const [, passed, failed, skipped = 0] of TOTALS.flatMap((total) => [...text.matchAll(total)])) {
    counts.passed += Number(passed)
    counts.failed += Number(failed)
    counts.skipped += Number(skipped)
  }
  for (const [, state, count] of text.matchAll(NODE_TOTAL)) counts[STATES[state]] += Number(count)
  const tests = TESTS.flatMap(([pattern, unit]) =>
    Array.from(text.matchAll(pattern), ([, name, time]) => ({ name, seconds: Number(time) / unit })),
  )
  return { ...counts, tests }
}

const longest = (tests) => tests.toSorted((a, b) => b.seconds - a.seconds).slice(0, 10)

const show = (/** @type {string} */ text) => process.stdout.write(text)

/**
 * Runs the short stages in order, then the long ones. The background stages run one after the other beside the other
 * long stages, and print their output when they end. After a failure no stage starts; one that runs goes on to its end.
 * @param {Stage[]} stages
 * @returns {Promise<Result[]>} in the order of `stages`
 */
export async function runStages(stages, print = show) {
  const results = new Map()
  const runEach = async (chosen, run) => {
    for (const stage of chosen) {
      if (hasFailed([...results.values()])) return
      results.set(stage, await run(stage))
    }
  }
  const inForeground = (stage) => runStage(stage, print)
  const inBackground = async (stage) => {
    print(`\n${stage.name}: runs in the background\n`)
    let output = ''
    const collect = (text) => {
      output += text
    }
    const result = await runStage(stage, collect, true)
    print(output)
    return result
  }
  await runEach(
    stages.filter(({ long }) => !long),
    inForeground,
  )
  const long = stages.filter((stage) => stage.long)
  const others = long.filter(({ background }) => !background)
  if (others.length === 0) await runEach(long, inForeground)
  else {
    const background = long.filter((stage) => stage.background)
    await Promise.all([runEach(background, inBackground), runEach(others, inForeground)])
  }
  return stages.flatMap((stage) => results.get(stage) ?? [])
}

/** @param {Result[]} results */
export const hasFailed = (results) => results.some(({ failed }) => failed > 0)

/**
 * Runs a stage to its end or to the first command that fails. A failed command without a failed test counts as one.
 * @param {Stage} stage
 * @returns {Promise<Result>}
 */
export async function runStage({ name, hasTests, commands }, print = show, isBackground = false) {
  const started = performance.now()
  const result = { name, seconds: 0, passed: 0, failed: 0, skipped: 0, longest: [] }
  for (const command of commands) {
    const { output, failure } = await runCommand(command, print, isBackground)
    const { tests, ...counts } = readOutput(output)
    for (const [state, count] of Object.entries(counts)) result[state] += count
    result.longest = longest([...result.longest, ...tests])
    if (failure === undefined && counts.failed === 0) continue
    const reason = `${name}: ${failure ?? `${counts.failed} failed`}`
    print(`\n${reason}\n`)
    result.failed ||= 1
    result.end = `${output.trimEnd().split('\n').slice(-80).join('\n')}\n${reason}`
    break
  }
  if (hasTests && result.failed === 0 && result.passed === 0) {
    result.end = `${name}: no test has run`
    print(`\n${result.end}\n`)
    result.failed = 1
  }
  result.seconds = (performance.now() - started) / 1000
  return result
}

/** Runs a command and prints its output; returns the output, and the reason if the command failed. */
async function runCommand({ command, args, env = {} }, print, isBackground) {
  const words = [command, ...args].join(' ')
  print(`\n> ${words}\n`)
  // Not detached: Linux compares priorities within a session, if its scheduler groups by session.
  const stdio = ['ignore', 'pipe', isBackground ? 'pipe' : 'inherit']
  const child = spawn(command, args, { cwd: root, env: { ...process.env, ...env }, stdio })
  if (isBackground) lowerPriority(child)
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text) => {
      output += text
      print(text)
    })
  const end = await once(child, 'close').catch((error) => [error.message])
  return { output, failure: end[0] === 0 ? undefined : `${words}: ${end[1] ?? end[0]}` }
}

/** The processes that the child starts inherit its priority. */
function lowerPriority({ pid }) {
  try {
    if (pid !== undefined) setPriority(pid, constants.priority.PRIORITY_LOW)
  } catch (error) {
    // The child may have ended.
    if (error.info?.code !== 'ESRCH') throw error
  }
}

/**
 * The last lines of each failed stage, the stages with seconds and tests, the ten longest tests, and the line with the
 * totals: the end of the log suffices to see what has failed.
 * @param {Result[]} results
 * @param {number} seconds by the clock, which is less than the sum if stages ran beside others
 */
export function table(results, seconds) {
  const title = 'the ten longest tests'
  const width = Math.max(...results.map(({ name }) => name.length), title.length)
  const row = (name, seconds, rest) => `${name.padEnd(width)} ${seconds.padStart(9)} ${rest}`.trimEnd()
  const sum = (key) => results.reduce((total, each) => total + each[key], 0)
  const all = results.flatMap(({ name, longest }) => longest.map((test) => ({ ...test, stage: name })))
  return [
    ...results.flatMap(({ end }) => (end === undefined ? [] : [end, ''])),
    row('stage', 'seconds', '  tests'),
    ...results.map((each) => row(each.name, each.seconds.toFixed(1), testsOf(each))),
    row('all', seconds.toFixed(1), String(sum('passed')).padStart(7)),
    '',
    row(title, 'seconds', ''),
    ...longest(all).map(({ name, seconds, stage }) => `${seconds.toFixed(1).padStart(9)} ${name} (${stage})`),
    '',
    `${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`,
  ].join('\n')
}

function testsOf({ passed, failed, skipped }) {
  if (passed + failed + skipped === 0) return '      -'
  const others = [failed > 0 && `${failed} FAILED`, skipped > 0 && `${skipped} skipped`].filter(Boolean)
  return [String(passed).padStart(7), ...others].join(', ')
}
