// What `npm run test:runtimes` makes of a runtime's report: nothing that went wrong may count as passed.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'

interface Exception {
  file: string
  name?: string | RegExp
  why: string
  sometimes?: boolean
}
interface Counts {
  passed: number
  failed: number
  skipped: number
}
interface Suite {
  runSuite(runtime: unknown, files: string[], tell: (line: string) => void): Counts
}
const { runSuite }: Suite = await import(join(root, 'scripts/runtimes/suite.mjs'))

/** The counts of a runtime that writes this report about its only file, and what was told. */
function judged(
  t: TestContext,
  report: string | undefined,
  code: number,
  exceptions: Exception[] = [],
): [Counts, string] {
  const script = join(directory(t), 'runtime.cjs')
  writeFileSync(
    script,
    `const report = ${JSON.stringify(report)}
    if (report !== undefined) require('node:fs').writeFileSync(process.argv[2], report)
    process.exit(${code})`,
  )
  const lines: string[] = []
  const runtime = {
    name: 'a runtime',
    command: (_: string, path: string) => [process.execPath, script, path],
    exceptions,
  }
  const counts = runSuite(runtime, ['some'], (line) => lines.push(line))
  return [counts, lines.join('\n')]
}

const suite = (tests: string) =>
  `<?xml version="1.0"?><testsuites><testsuite name="s">${tests}</testsuite></testsuites>`
const PASSED = '<testcase name="good &amp; old" time="1"/>'
const FAILED = '<testcase name="bad"><failure message="m">is not 2</failure></testcase>'

test('what a report says is counted, inside of suites too', (t) => {
  const skipped = '<testcase name="other"><skipped message="no strace"/></testcase>'
  const nested = suite(`${PASSED}<testsuite name="inner">${FAILED}${skipped}</testsuite>`)
  const [counts, told] = judged(t, nested, 1)
  assert.deepEqual(counts, { passed: 1, failed: 1, skipped: 1 })
  assert.match(told, /failed: bad\n\s+is not 2/)
  assert.match(told, /skipped: other\n\s+no strace/)
})

test('a listed test that fails is skipped, and the reason told', (t) => {
  const [counts, told] = judged(t, suite(PASSED + FAILED), 1, [
    { file: 'some', name: 'bad', why: 'no 2 there' },
  ])
  assert.deepEqual(counts, { passed: 1, failed: 0, skipped: 1 })
  assert.match(told, /skipped: bad\n\s+no 2 there/)
})

test('a listed test that passes sometimes is skipped either way', (t) => {
  for (const name of ['bad', 'good & old']) {
    const exceptions = [{ file: 'some', name, why: 'who knows', sometimes: true }]
    const counts = judged(t, suite(PASSED + FAILED), 1, exceptions)[0]
    assert.deepEqual(counts, { passed: name === 'bad' ? 1 : 0, failed: name === 'bad' ? 0 : 1, skipped: 1 })
  }
})

test('a pattern may list several tests', (t) => {
  const [counts] = judged(t, suite(PASSED + FAILED), 1, [{ file: 'some', name: /^b/, why: 'no 2 there' }])
  assert.deepEqual(counts, { passed: 1, failed: 0, skipped: 1 })
})

for (const [what, exception] of [
  ['a listed test that passes', { name: 'good & old' }],
  ['a pattern with one that passes', { name: /good|bad/ }],
  ['a listed test that is no more', { name: 'gone' }],
  ['a listed file that passes', {}],
] as const) {
  test(`${what} is a failure`, (t) => {
    const [counts, told] = judged(t, suite(PASSED), 0, [{ file: 'some', why: 'never', ...exception }])
    assert.equal(counts.failed, 1, told)
  })
}

test('a listed file that fails is one that is skipped', (t) => {
  const [counts, told] = judged(t, undefined, 1, [{ file: 'some', why: 'no threads' }])
  assert.deepEqual(counts, { passed: 0, failed: 0, skipped: 1 })
  assert.match(told, /no threads/)
})

for (const [what, report, code] of [
  ['without a report', undefined, 0],
  ['without a report, by an error', undefined, 1],
  ['with an empty report', suite(''), 0],
  ['by an error that no test is told of', suite(PASSED), 1],
] as const) {
  test(`a file that ends ${what} is a failure`, (t) => {
    const [counts, told] = judged(t, report, code)
    assert.equal(counts.failed, 1, told)
  })
}
