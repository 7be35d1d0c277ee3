// Runs several test files at once in a runtime, and reads its JUnit reports.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { XMLParser } from 'fast-xml-parser'
import { local, root } from '../steps.mjs'
import { compiledTest, folders } from '../suite.mjs'

/** The line that `__test__/support/known-failure.mts` prints for a test that cannot pass. */
const KNOWN_FAILURE = /^known failure: (.+?): (.+)$/gm
const parser = new XMLParser({
  ...{ ignoreAttributes: false, attributeNamePrefix: '', parseAttributeValue: false, parseTagValue: false },
  htmlEntities: true,
  isArray: (name) => name === 'testcase' || name === 'testsuite',
})

/** The words after the executable that run a file of tests and write a report. */
export const testArguments = {
  // The report appears at the end alone; the other reporter says how far a file came that hangs.
  node: (file, report) => [
    ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
    ...['--test-reporter=junit', `--test-reporter-destination=${report}`, file],
  ],
  // Bun's own limit of five seconds is shorter than some tests take; that of the file is ten minutes.
  bun: (file, report) => [
    ...['test', '--timeout=580000', '--reporter=junit', `--reporter-outfile=${report}`, `./${file}`],
  ],
  deno: (file, report) => ['test', '--allow-all', '--no-check', `--junit-path=${report}`, file],
}

const indent = (text, width) => text.replaceAll('\n', `\n${' '.repeat(width)}`)

/**
 * Runs files, given as `folder/name`; returns the numbers of tests, and the output of each that failed. `command`: the
 * words that run a file and write a report. `concurrency`: how many files run at once. `deadline`: the milliseconds after
 * which a file is killed.
 */
export async function runSuite(
  { name: runtime, command, env, concurrency = 3 * availableParallelism(), deadline = 10 * 60_000 },
  files,
  print = console.log,
) {
  print(`\n# ${runtime}`)
  const counts = { passed: 0, failed: 0, skipped: 0 }
  const failures = []
  // The longest files first, so that none runs alone at the end.
  const isLong = (file) => Number(folders[file.split('/')[0]]?.long ?? false)
  const waiting = files.toSorted((a, b) => isLong(b) - isLong(a)).values()
  const work = async () => {
    for (const file of waiting) {
      const began = performance.now()
      const results = await runFile(file, command, env, deadline)
      const seconds = ((performance.now() - began) / 1000).toFixed(1)
      const found = Object.keys(counts).flatMap((state) => {
        const number = results.filter((one) => one.state === state).length
        counts[state] += number
        return number > 0 ? [`${number} ${state}`] : []
      })
      print(`${file.padEnd(28)} ${found.join(', ')} (${seconds} s)`)
      for (const { name, state, about } of results.filter((one) => one.state !== 'passed')) {
        const why = about.trim() || 'the report of this runtime gives no reason; that of npm test does'
        print(`  ${state}: ${name}\n    ${indent(why, 4)}`)
        if (state === 'failed') failures.push(`failed: ${runtime}, ${file}: ${name}\n  ${indent(why, 2)}`)
      }
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  return { ...counts, failures }
}

/** The tests of a file, each with its `state`, and in `about` why it has not passed. */
async function runFile(file, command, env, deadline) {
  const directory = join(root, 'target/runtimes/reports')
  mkdirSync(directory, { recursive: true })
  const report = join(directory, `${file.replace('/', '-')}.xml`)
  const log = report.replace(/xml$/, 'log')
  rmSync(report, { force: true })
  const [program, ...args] = command(compiledTest(file), report)
  // Files, not pipes: a process that a test has left would keep a pipe open.
  const output = openSync(log, 'w')
  const options = { cwd: root, env: { ...process.env, ...local, ...env } }
  const child = spawn(program, args, { ...options, stdio: ['ignore', output, output] })
  closeSync(output)
  let hung = ''
  const late = setTimeout(() => {
    hung = threadsOf(child.pid)
    child.kill('SIGKILL')
  }, deadline)
  const [code, signal] = await once(child, 'exit').catch((error) => [error.message])
  clearTimeout(late)
  const end = code === 0 ? 0 : (signal ?? `exit code ${code}`)
  const text = readFileSync(log, 'utf8')
  const results = existsSync(report) ? readReport(readFileSync(report, 'utf8')) : []
  // Deno reports a skipped test as passed.
  for (const [, name, why] of text.matchAll(KNOWN_FAILURE)) {
    const known = results.find((result) => result.name === name && result.state !== 'failed')
    if (known) Object.assign(known, { state: 'skipped', about: why })
  }
  if (results.length > 0 && (end === 0 || results.some(({ state }) => state === 'failed'))) return results
  const about = `${end || 'exit code 0'}, ${results.length} tests reported\n${text.slice(-4000)}${hung}`
  return [...results, { name: 'the file as a whole', state: 'failed', about }]
}

/** The system calls in which the threads of a process and of its children wait; an idle event loop waits in epoll. */
function threadsOf(pid) {
  const columns = ['-L', '-o', 'pid,ppid,lwp,stat,wchan:24,args:60', '-p', pid, '--ppid', pid]
  const { stdout, error } = spawnSync('ps', columns, { encoding: 'utf8' })
  return stdout ?? `its threads are unknown: ${error?.message}`
}

/** The tests in a JUnit report, including those in suites. */
function readReport(xml) {
  const textOf = (element) => element['#text'] ?? element.message ?? String(element)
  const visit = ({ testcase = [], testsuite = [] }) => [
    ...testcase.map(({ name, failure, error = failure, skipped }) => {
      if (error !== undefined) return { name, state: 'failed', about: textOf(error) }
      if (skipped !== undefined) return { name, state: 'skipped', about: textOf(skipped) }
      return { name, state: 'passed', about: '' }
    }),
    ...testsuite.flatMap(visit),
  ]
  return visit(parser.parse(xml).testsuites || {})
}
