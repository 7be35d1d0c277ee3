// The driver of `npm test` reads the output of the runners, and counts no failure as passed.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'

interface Counts {
  passed: number
  failed: number
  skipped: number
}
interface Timed {
  name: string
  seconds: number
}
type Result = Counts & { name: string; seconds: number; tests: Timed[]; failures: string[] }
interface Stage {
  name: string
  commands: readonly string[]
  hasTests?: boolean
  long?: boolean
  background?: boolean
}

interface Gate {
  readOutput(output: string): Counts & { tests: Timed[] }
  runStage(stage: Stage, print: (text: string) => void): Promise<Result>
  runStages(stages: Stage[], print: (text: string) => void): Promise<Result[]>
  table(results: Result[], seconds: number): string
}
const { readOutput, runStage, runStages, table }: Gate = await import(join(root, 'tools/gate.mjs'))
const { stages }: { stages: Stage[] } = await import(join(root, 'tools/stages.mjs'))

for (const [what, output, counts, tests] of [
  [
    'Cargo',
    `running 2 tests
test judge::a_row ... ok <0.250s>
test slow ... ok <2.000s>
test ignored ... ignored

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 2.10s`,
    { passed: 2, failed: 0, skipped: 1 },
    [
      { name: 'judge::a_row', seconds: 0.25 },
      { name: 'slow', seconds: 2 },
    ],
  ],
  [
    'Node.js, with colours',
    `\u001b[32m✔ acquires (12.5ms)\u001b[39m
\u001b[31m✖ waits (500ms)\u001b[39m
ℹ tests 4
ℹ pass 1
ℹ fail 1
ℹ cancelled 1
ℹ skipped 1
ℹ todo 0`,
    { passed: 1, failed: 2, skipped: 1 },
    [{ name: 'acquires', seconds: 0.0125 }],
  ],
  ['this project', '\n3 passed, 1 failed, 2 skipped\n', { passed: 3, failed: 1, skipped: 2 }, []],
  ['a line that is not the total', 'node 22: 3 passed, 1 failed', { passed: 0, failed: 0, skipped: 0 }, []],
] as const) {
  test(`readOutput parses ${what}`, () => {
    const { tests: found, ...sums } = readOutput(output)
    assert.deepEqual(sums, counts)
    assert.deepEqual(found, tests)
  })
}

/** Lines that run programs without single quotes. */
const node = (...programs: string[]) => programs.map((program) => `node -e '${program}'`)

for (const [what, stage, failed] of [
  ['whose commands succeed', { commands: node('', 'console.log("1 passed, 0 failed")') }, 0],
  ['whose first command fails', { commands: node('process.exit(3)', '') }, 1],
  ['whose command is killed', { commands: node('process.kill(process.pid, "SIGKILL")') }, 1],
  ['whose command does not exist', { commands: ['./nothing-there'] }, 1],
  ['with failed tests, exit code 0', { commands: node('console.log("0 passed, 2 failed")') }, 2],
  ['without its required tests', { hasTests: true, commands: node('') }, 1],
] as const) {
  test(`a stage ${what}: ${failed} failed`, async () => {
    const result = await runStage({ name: 'a stage', ...stage }, () => {})
    assert.equal(result.failed, failed)
  })
}

test('a command runs the Node.js that runs the gate', async (t) => {
  const { PATH } = process.env
  t.after(() => {
    process.env.PATH = PATH
  })
  process.env.PATH = ''
  const printed: string[] = []
  await runStage({ name: 'a stage', commands: node('console.log(process.execPath)') }, (text) =>
    printed.push(text),
  )
  assert.equal(printed.at(-1), `${process.execPath}\n`)
})

/** A program that waits for a file; it fails after a time in which even a slow machine creates it. */
const awaitFile = (path: string) =>
  `setInterval(() => fs.existsSync(${JSON.stringify(path)}) && process.exit(0), 10)
  setTimeout(() => process.exit(1), 30_000)`
const create = (path: string) => `fs.writeFileSync(${JSON.stringify(path)}, "")`

test('background stages run beside the others', async (t) => {
  const [one, two] = ['one', 'two'].map((name) => join(directory(t), name)) as [string, string]
  const background = { long: true, background: true }
  const programs = [`${create(one)}; console.error("an error")`, awaitFile(two), 'console.log("the end")']
  const printed: string[] = []
  const results = await runStages(
    [
      { name: 'short', commands: node('console.log("1 passed, 0 failed")') },
      { name: 'computes', commands: node(...programs), ...background },
      { name: 'waits', commands: node(awaitFile(one), create(two)), long: true },
      { name: 'later', commands: node(''), ...background },
    ],
    (text) => printed.push(text),
  )
  assert.deepEqual(
    results.map(({ name, failed }) => `${name} ${failed}`),
    ['short 0', 'computes 0', 'waits 0', 'later 0'],
  )
  const whole = printed.find((text) => text.includes('the end')) ?? ''
  assert.match(whole, /^\n> .*\nan error\n.*\nthe end\n$/s)
})

test('background stages run at low priority', () => {
  const inBackground = stages.filter(({ background }) => background)
  assert.ok(inBackground.length > 0)
  for (const { name, commands } of inBackground)
    assert.ok(
      commands.every((command) => command.startsWith('nice -n 19 ')),
      name,
    )
})

test('the output of a failed stage precedes the table', async () => {
  const commands = node('console.error("a reason"); process.exitCode = 1')
  const results = await runStages(
    [
      { name: 'computes', commands, long: true, background: true },
      { name: 'passes', commands: node('console.log("all of it")'), long: true },
    ],
    () => {},
  )
  const text = table(results, 1)
  assert.match(text, /^a reason\ncomputes: .*: 1\n\n +seconds /)
  assert.doesNotMatch(text, /all of it/)
})

test('the last 80 lines show tests that failed', async () => {
  const program =
    'for (let line = 1; line < 100; line++) console.log(line); console.log("0 passed, 2 failed")'
  const text = table([await runStage({ name: 'a stage', commands: node(program) }, () => {})], 1)
  const [end = '', rest] = text.split('\na stage: ')
  assert.deepEqual([end.split('\n').length, end.slice(0, 3)], [80, '21\n'])
  assert.match(rest ?? '', /2 failed\n\n +seconds /)
})

for (const background of [true, false]) {
  const others = background ? 'foreground' : 'background'
  test(`no stage starts after a failure; the ${others} one ends`, async (t) => {
    const path = join(directory(t), 'failed')
    const [fails, ends] = [{ background }, { background: !background }]
    const results = await runStages(
      [
        { name: 'fails', commands: node('process.exit(1)'), long: true, ...fails },
        { name: 'after it', commands: node(''), long: true, ...fails },
        { name: 'ends', commands: node(awaitFile(path)), long: true, ...ends },
        { name: 'beside it', commands: node(''), long: true, ...ends },
      ],
      (text) => text.includes("exit(1)': 1") && writeFileSync(path, ''),
    )
    assert.deepEqual(
      results.map(({ name, failed }) => `${name} ${failed}`),
      ['fails 1', 'ends 0'],
    )
  })
}

test('the table shows stages, the longest tests and the sums', () => {
  const tests = Array.from({ length: 12 }, (_, index) => ({ name: `test ${index}`, seconds: index }))
  const lines = table(
    [
      { name: 'build', seconds: 46, passed: 0, failed: 0, skipped: 0, tests: [], failures: [] },
      { name: 'core', seconds: 12.34, passed: 88, failed: 1, skipped: 2, tests, failures: [] },
    ],
    50,
  ).split('\n')
  assert.match(lines[0] ?? '', /^ +seconds +passed +failed +skipped$/)
  assert.match(lines[1] ?? '', /^ +build +46\.0 +0 +0 +0$/)
  assert.match(lines[2] ?? '', /^ +core +12\.3 +88 +1 +2$/)
  assert.match(lines[3] ?? '', /^ +all +50\.0 +88 +1 +2$/)
  assert.equal(lines.filter((line) => line.includes('(core)')).length, 10)
  assert.match(lines.find((line) => line.includes('(core)')) ?? '', /^ +11\.0 test 11 \(core\)$/)
  assert.equal(lines.at(-1), '88 passed, 1 failed, 2 skipped')
})

for (const [what, text, status] of [
  ['without a test', '', 1],
  ['with a test', "import { test } from 'node:test'\ntest('it', () => {})", 0],
] as const)
  test(`the suite exits ${status} for a file ${what}`, (t) => {
    const home = directory(t)
    const [file, program] = [join(home, 'some.test.mjs'), join(home, 'program.mjs')]
    writeFileSync(file, text)
    const suite = JSON.stringify(pathToFileURL(join(root, 'tools/suite.mjs')))
    writeFileSync(program, `import { suite } from ${suite}; await suite([${JSON.stringify(file)}])`)
    const run = spawnSync(process.execPath, [program], {
      encoding: 'utf8',
      env: { ...process.env, NODE_TEST_CONTEXT: undefined },
    })
    assert.equal(run.status, status, run.stdout + run.stderr)
    assert.equal(run.stderr, status === 0 ? '' : `${file}: it contains no test\n`)
  })

test('the tests of the model that stages name exist', () => {
  const commands = stages.flatMap((stage) => stage.commands).filter((command) => command.includes('-model '))
  const named = commands.flatMap((command) => [...command.matchAll(/(?:--exact|--skip) (\w+(?: \w+)*)/g)])
  const names = named.flatMap(([, words = '']) => words.split(' '))
  assert.ok(names.length >= 4, names.join())
  const text = readFileSync(join(root, 'model/tests/model.rs'), 'utf8')
  for (const name of names) assert.ok(text.includes(`#[test]\nfn ${name}()`), name)
})

test('the workflow runs every long stage but sizes', () => {
  const workflow = readFileSync(join(root, '.github/workflows/ci.yml'), 'utf8')
  const [, only = ''] = /npm run test:all -- --only "(.+)"/.exec(workflow) ?? []
  const expected = stages.filter(({ name, long }) => long && name !== 'sizes')
  assert.deepEqual(
    only.split(','),
    expected.map(({ name }) => name),
  )
})

test('every stage has a unique name', () => {
  assert.equal(new Set(stages.map(({ name }) => name)).size, stages.length)
})

test('the check rejects unreleased commit subjects over 72 characters', (t) => {
  const home = directory(t)
  const git = (...args: string[]) => {
    const identity = ['-c', 'user.name=a', '-c', 'user.email=a@b', '-c', 'commit.gpgsign=false']
    const { status, stderr } = spawnSync('git', [...identity, ...args], { cwd: home, encoding: 'utf8' })
    assert.equal(status, 0, stderr)
  }
  const commit = (subject: string) => git('commit', '--quiet', '--allow-empty', '-m', subject)
  const check = (path = home) => {
    const args = [join(root, 'tools/check.mjs'), 'commits', path]
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    return `${status} ${stdout}${stderr}`
  }
  assert.match(check(), /^0 commit subjects: skipped, as git fails: .*not a git repository/)
  git('init', '--quiet')
  commit('x'.repeat(72))
  assert.equal(check(), '0 commit subjects: 1 checked\n')
  commit('y'.repeat(73))
  assert.match(check(), /^1 these subjects have more than 72 characters:\n[\d-]+ [0-9a-f]+ y{73}\n$/)
  git('tag', 'v1.0.0')
  commit('Short')
  assert.equal(check(), '0 commit subjects: 1 checked\n')
  git('clone', '--quiet', '--depth', '1', `file://${home}`, 'shallow')
  assert.equal(check(join(home, 'shallow')), '0 commit subjects: skipped, as this clone is shallow\n')
})
