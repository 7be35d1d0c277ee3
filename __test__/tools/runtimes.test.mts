// The runner of `npm run test:runtimes` on made-up reports, and knownFailure().
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'

interface Counts {
  passed: number
  failed: number
  skipped: number
}
type Outcome = Counts & { failures: string[] }
interface Suite {
  runSuite(runtime: unknown, files: string[], print: (line: string) => void): Promise<Outcome>
  testArguments: { node(file: string, report: string): string[] }
}
const { runSuite, testArguments }: Suite = await import(join(root, 'tools/runtimes/suite.mjs'))
interface Names {
  testNames(isWanted?: (needs: object, folder: string) => boolean, missing?: object): string[]
}
const { testNames }: Names = await import(join(root, 'tools/suite.mjs'))

/** The counts of a runtime that writes this report about its only file, and what was printed. */
async function judged(
  t: TestContext,
  report: string | undefined,
  code: number,
  output = '',
): Promise<[Counts, string, string[]]> {
  const script = join(directory(t), 'runtime.cjs')
  writeFileSync(
    script,
    `const report = ${JSON.stringify(report)}
    if (report !== undefined) require('node:fs').writeFileSync(process.argv[2], report)
    console.log(${JSON.stringify(output)})
    process.exit(${code})`,
  )
  const lines: string[] = []
  const runtime = {
    name: 'a runtime',
    command: (_: string, path: string) => [process.execPath, script, path],
  }
  const { failures, ...counts } = await runSuite(runtime, ['some/file'], (line) => lines.push(line))
  return [counts, lines.join('\n'), failures]
}

const suite = (tests: string) =>
  `<?xml version="1.0"?><testsuites><testsuite name="s">${tests}</testsuite></testsuites>`
const PASSED = '<testcase name="good &amp; old" time="1"/>'
const FAILED = '<testcase name="bad"><failure message="m">is not 2</failure></testcase>'

test('runSuite counts the tests of nested suites', async (t) => {
  const skipped = '<testcase name="other"><skipped message="no strace"/></testcase>'
  const nested = suite(`${PASSED}<testsuite name="inner">${FAILED}${skipped}</testsuite>`)
  const [counts, printed, failures] = await judged(t, nested, 1)
  assert.deepEqual(counts, { passed: 1, failed: 1, skipped: 1 })
  assert.match(printed, /failed: bad\n\s+is not 2/)
  assert.match(printed, /skipped: other\n\s+no strace/)
  assert.deepEqual(failures, ['failed: a runtime, some/file: bad\n  is not 2'])
})

test('runSuite prints that a skip has no reason', async (t) => {
  const [counts, printed] = await judged(t, suite('<testcase name="other"><skipped/></testcase>'), 0)
  assert.deepEqual(counts, { passed: 0, failed: 0, skipped: 1 })
  assert.match(printed, /skipped: other\n\s+the report of this runtime gives no reason/)
})

test('runSuite counts a known failure that passed as skipped', async (t) => {
  const [counts, printed] = await judged(t, suite(PASSED), 0, 'known failure: good & old: no 2 there')
  assert.deepEqual(counts, { passed: 0, failed: 0, skipped: 1 })
  assert.match(printed, /skipped: good & old\n\s+no 2 there/)
})

test('a known failure does not hide a test that failed', async (t) => {
  const [counts] = await judged(t, suite(FAILED), 1, 'known failure: bad: no 2 there')
  assert.deepEqual(counts, { passed: 0, failed: 1, skipped: 0 })
})

for (const [what, report, code] of [
  ['without a report', undefined, 0],
  ['with an error, without report', undefined, 1],
  ['with an empty report', suite(''), 0],
  ['with an error outside tests', suite(PASSED), 1],
] as const) {
  test(`a file that ends ${what} fails`, async (t) => {
    const [counts, printed] = await judged(t, report, code)
    assert.equal(counts.failed, 1, printed)
  })
}

test('a file that hangs is killed, its test printed', async (t) => {
  const script = join(directory(t), 'hangs.test.cjs')
  writeFileSync(script, "require('node:test').test('the first', () => void setInterval(() => {}, 1e6))")
  const lines: string[] = []
  const command = (_: string, report: string) => [process.execPath, ...testArguments.node(script, report)]
  const runtime = { name: 'a runtime', command, deadline: 2000, env: { NODE_TEST_CONTEXT: undefined } }
  const { failures, ...counts } = await runSuite(runtime, ['some/file'], (line) => lines.push(line))
  assert.equal(failures.length, 1)
  assert.deepEqual(counts, { passed: 0, failed: 1, skipped: 0 })
  assert.match(lines.join('\n'), /SIGKILL.*✔ the first.*epoll_wait/s)
})

test('testNames leaves out what this machine lacks, and says why', (t) => {
  const log = t.mock.method(console, 'log', () => {})
  const isWanted = (_: object, folder: string) => ['postgres', 'cli'].includes(folder)
  const names = testNames(isWanted, { server: 'a reason' })
  assert.deepEqual([...new Set(names.map((name) => name.split('/')[0]))], ['cli'])
  const printed = log.mock.calls.map(({ arguments: [line] }) => line)
  assert.deepEqual(printed, ['SKIPPED, as a reason: __test__/postgres/'])
})

/** Runs one marked test on a platform; returns the state that Node.js reports. */
function marked(t: TestContext, platform: string, mark: object | object[], body: string): string {
  const file = join(directory(t), 'marked.test.mjs')
  const helper = join(root, 'build/__test__/support/known-failure.mjs')
  writeFileSync(
    file,
    `import { test } from 'node:test'
    import { knownFailure } from ${JSON.stringify(helper)}
    test('marked', knownFailure(${JSON.stringify(mark)}, ${body}))`,
  )
  const env = { ...process.env, RECONCILE_TEST_PLATFORM: platform, NODE_TEST_CONTEXT: undefined }
  const { stdout } = spawnSync(process.execPath, ['--test-reporter=tap', file], {
    encoding: 'utf8',
    env,
    timeout: 60_000,
  })
  const [, failed, directive] = /^(not )?ok 1 - marked(?: # (\w+).*)?$/m.exec(stdout) ?? []
  assert.match(stdout, /^1\.\.1$/m)
  return failed ? 'failed' : (directive?.toLowerCase() ?? 'passed')
}

const QEMU = { platform: 'qemu', why: 'it is slow' }
const FAILS = `() => { throw new Error('no') }`
const PASSES = 'async () => {}'

for (const [what, platform, mark, body, state] of [
  ['fails on its platform', 'qemu', QEMU, FAILS, 'skip'],
  ['fails under qemu and musl', 'qemu musl', QEMU, FAILS, 'skip'],
  ['fails with several marks', 'musl', [QEMU, { platform: 'musl', why: 'it is another' }], FAILS, 'skip'],
  ['passes on its platform', 'qemu', QEMU, PASSES, 'failed'],
  ['passes on it sometimes', 'qemu', { ...QEMU, sometimes: true }, PASSES, 'passed'],
  ['fails on it sometimes', 'qemu', { ...QEMU, sometimes: true }, FAILS, 'skip'],
  ['passes elsewhere', '', QEMU, PASSES, 'passed'],
  ['fails elsewhere', 'musl', QEMU, FAILS, 'failed'],
] as const) {
  test(`a marked test that ${what}: ${state}`, (t) => {
    assert.equal(marked(t, platform, mark, body), state)
  })
}
