// Runs a stage of the gate: shows what its commands print, and reads the tests from it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { root } from '../steps.mjs'
import { readOutput } from './output.mjs'

/**
 * @typedef {object} Stage
 * @property {string} name
 * @property {true} [long] `npm run test:all` runs it, `npm test` does not
 * @property {true} [hasTests] a run in which no test is counted is a failure
 * @property {{ command: string, args: string[], env?: NodeJS.ProcessEnv }[]} commands one after the other
 *
 * @typedef {object} Result
 * @property {string} name
 * @property {number} seconds
 * @property {number} passed
 * @property {number} failed tests, or 1 for a command that failed without one
 * @property {number} skipped
 * @property {{ name: string, seconds: number }[]} longest
 */

/**
 * Runs a stage to its end or to the first command that fails.
 * @param {Stage} stage
 * @param {(text: string) => void} [print]
 * @returns {Promise<Result>}
 */
export async function runStage({ name, hasTests, commands }, print = (text) => process.stdout.write(text)) {
  const started = performance.now()
  const result = { name, seconds: 0, passed: 0, failed: 0, skipped: 0, longest: [] }
  for (const command of commands) {
    const { output, failure } = await runCommand(command, print)
    const { tests, ...counts } = readOutput(output)
    for (const [state, count] of Object.entries(counts)) result[state] += count
    result.longest.push(...tests)
    if (failure === undefined) continue
    print(`\n${name}: ${failure}\n`)
    result.failed ||= 1
    break
  }
  if (hasTests && result.failed === 0 && result.passed === 0) {
    print(`\n${name}: no test has run\n`)
    result.failed = 1
  }
  result.longest = result.longest.toSorted((a, b) => b.seconds - a.seconds).slice(0, 10)
  result.seconds = (performance.now() - started) / 1000
  return result
}

/** Runs a command, shows what it prints, and returns that with the reason if it failed. */
async function runCommand({ command, args, env = {} }, print) {
  const words = [command, ...args].join(' ')
  print(`\n> ${words}\n`)
  const child = spawn(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    output += text
    print(text)
  })
  try {
    const [code, signal] = await once(child, 'close')
    return { output, failure: code === 0 ? undefined : `${words}: ${signal ?? `exit code ${code}`}` }
  } catch (error) {
    return { output, failure: `${words}: ${error.message}` }
  }
}
