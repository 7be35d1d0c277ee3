// Runs the stages of the gate, reads the tests from the output of their commands, and makes the table at the end.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { dirname } from 'node:path'
import { columns } from './cli.mjs'
import { root } from './steps.mjs'

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

/** Counts the tests in the output of a command. */
export function readOutput(output) {
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

const show = (text) => process.stdout.write(text)

/**
 * Runs the short stages, then the long ones, with the background stages beside the others; the output of these appears
 * when they end. After a failure no stage starts; one that runs goes on to its end.
 */
export async function runStages(stages, print = show) {
  const results = new Map()
  const runEach = async (isWanted, run = runStage) => {
    for (const stage of stages.filter(isWanted))
      if (!hasFailed([...results.values()])) results.set(stage, await run(stage, print))
  }
  const inBackground = async (stage) => {
    print(`\n${stage.name}: runs in the background\n`)
    const printed = []
    const result = await runStage(stage, (text) => printed.push(text))
    print(printed.join(''))
    return result
  }
  await runEach(({ long }) => !long)
  await Promise.all([
    runEach(({ long, background }) => long && !background),
    runEach(({ background }) => background, inBackground),
  ])
  return stages.flatMap((stage) => results.get(stage) ?? [])
}

export const hasFailed = (results) => results.some(({ failed }) => failed > 0)

/** Runs a stage to its end or to the first command that fails. A failed command without a failed test counts as one. */
export async function runStage({ name, hasTests, commands }, print = show) {
  const started = performance.now()
  const result = { name, seconds: 0, passed: 0, failed: 0, skipped: 0, tests: [], failures: [] }
  const fail = (output, reason) => {
    print(`\n${name}: ${reason}\n`)
    result.failed ||= 1
    result.failures.push(`${output.trimEnd().split('\n').slice(-80).join('\n')}\n${name}: ${reason}`)
  }
  for (const command of commands) {
    const { output, end } = await runCommand(command, print)
    const { tests, ...counts } = readOutput(output)
    for (const [state, count] of Object.entries(counts)) result[state] += count
    result.tests.push(...tests)
    if (end !== 0 || counts.failed > 0) {
      fail(output, `${command}: ${end || `${counts.failed} failed`}`)
      break
    }
  }
  if (hasTests && result.failed + result.passed === 0) fail('', 'no test has run')
  result.seconds = (performance.now() - started) / 1000
  return result
}

/** Runs a command line and prints its output; `end` is its exit code or signal. `node` is the Node.js that runs this. */
async function runCommand(command, print) {
  print(`\n> ${command}\n`)
  const env = { ...process.env, PATH: `${dirname(process.execPath)}:${process.env.PATH}` }
  // Not detached: Linux compares priorities within a session, if its scheduler groups by session.
  const child = spawn(command, { shell: true, cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      output += text
      print(text)
    })
  const [code, signal] = await once(child, 'close')
  return { output, end: signal ?? code }
}

/**
 * The last lines of each failed stage, the stages with seconds and tests, the ten longest tests, and the line with the
 * totals: the end of the log suffices to see what has failed. `seconds`: by the clock, which is less than the sum if
 * stages ran beside others.
 */
export function table(results, seconds) {
  const states = ['passed', 'failed', 'skipped']
  const sum = (state) => results.reduce((total, each) => total + each[state], 0)
  const all = { name: 'all', seconds, ...Object.fromEntries(states.map((state) => [state, sum(state)])) }
  const row = (each) => [each.name, each.seconds.toFixed(1), ...states.map((state) => String(each[state]))]
  const tests = results.flatMap(({ name, tests = [] }) => tests.map((test) => ({ ...test, stage: name })))
  const longest = tests.toSorted((a, b) => b.seconds - a.seconds).slice(0, 10)
  return [
    ...results.flatMap(({ failures }) => failures.map((failure) => `${failure}\n`)),
    columns([['', 'seconds', ...states], ...[...results, all].map(row)], 1),
    ...(longest.length > 0 ? ['\n  the ten longest tests, in seconds'] : []),
    ...longest.map(({ name, seconds, stage }) => `${seconds.toFixed(1).padStart(9)} ${name} (${stage})`),
    `\n${states.map((state) => `${all[state]} ${state}`).join(', ')}`,
  ].join('\n')
}
