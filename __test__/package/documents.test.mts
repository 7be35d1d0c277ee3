// The documents: links lead somewhere, code is right, tables name what there is, and figures are those that were measured.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { blocksOf, complaints } from '../support/blocks.mjs'
import { root } from '../support/packages.mjs'

const require = createRequire(import.meta.url)
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const documents = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'CHANGELOG.md',
  ...readdirSync(join(root, 'docs')).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : [])),
]

/** A heading as GitHub names it in a link. */
const anchor = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(' ', '-')
const anchors = (text: string) => [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchor(heading))

for (const path of documents) {
  test(`${path}: every link to a file of this project leads there`, () => {
    const links = [...read(path).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link)
    for (const link of links) {
      if (/^(https?|mailto):/.test(link)) continue
      const [file = '', heading] = link.split('#')
      const target = file === '' ? path : join(dirname(path), file)
      assert.ok(existsSync(join(root, target)), `${link}: there is no ${target}`)
      if (heading !== undefined && target.endsWith('.md'))
        assert.ok(anchors(read(target)).includes(heading), `${link}: there is no such heading`)
    }
  })
}

test('README.md begins with the picture, and its parts are in order', () => {
  const text = read('README.md')
  assert.ok(text.indexOf('docs/two-runs.svg') < text.indexOf('## '))
  const parts = [...text.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)
  assert.deepEqual(parts, [
    'Install',
    'Example',
    'Try it',
    'In place of a hand-written lock',
    'API',
    'Errors',
    'Command line',
    'Several machines',
    'How it works',
    'Comparison',
    'Platforms',
    'Questions',
  ])
})

test('the first example has ten lines at most', () => {
  const [code = ''] = blocksOf('README.md')
  assert.match(code, /acquireLock/)
  assert.ok(code.trim().split('\n').length <= 10)
})

test('the code of README.md is right by its types', (t) => {
  const blocks = blocksOf('README.md')
  assert.equal(blocks.length, 5)
  const declared = 'declare function postPayments(): Promise<void>\nexport {}\n'
  const code = blocks.map((block) => `${block}\n${declared}`)
  assert.equal(complaints(t, code), '')
  assert.match(complaints(t, ["import { acquire } from 'reconcile-lock'\nacquire()\n"]), /no exported member/)
})

/** The part of README.md below a heading. */
function part(heading: string): string {
  const [, text = ''] = new RegExp(`^## ${heading}\\n(.*?)(?=^## )`, 'ms').exec(read('README.md')) ?? []
  assert.notEqual(text, '', heading)
  return text
}

test('the table of errors names the codes that the types name, and no other', () => {
  const codes = (text: string) => [...new Set(text.match(/\bE_LOCK_\w+/g))].sort()
  assert.deepEqual(codes(part('Errors')), codes(read('index.d.ts')))
})

test('the table of exit codes has those of the command line', () => {
  const rows = [...part('Command line').matchAll(/^\| ([\d, ]+?) +\|/gm)].flatMap(([, cell = '']) =>
    cell.split(', '),
  )
  const codes: number[] = Object.values(require(join(root, 'cli/exit-codes.js')))
  assert.deepEqual(rows.map(Number).sort(), codes.sort())
})

test('every function of the package is in the table of calls, or named below it', () => {
  const names = Object.keys(require(root)).filter((name) => name !== 'LockError')
  for (const name of names) assert.match(part('API'), new RegExp(`\`${name}\\b`), name)
})

test('the table of platforms has every target that a binary is published for', () => {
  const { napi }: { napi: { targets: string[] } } = JSON.parse(read('package.json'))
  const text = part('Platforms')
  const words: Record<string, RegExp> = {
    'x86_64-unknown-linux-gnu': /Linux x64, glibc .* \| tested/,
    'aarch64-unknown-linux-gnu': /Linux arm64, glibc .* \| tested/,
    'x86_64-unknown-linux-musl': /Linux x64, musl +\| tested/,
    'aarch64-unknown-linux-musl': /Linux arm64, musl +\| built/,
    'aarch64-apple-darwin': /macOS arm64 and x64 +\| compiles/,
    'x86_64-apple-darwin': /macOS arm64 and x64 +\| compiles/,
    'x86_64-pc-windows-msvc': /Windows x64 +\| compiles/,
    'aarch64-pc-windows-msvc': /Windows arm64 +\| compiles/,
  }
  for (const target of napi.targets) assert.match(text, words[target] ?? /none/, target)
})

test('the figures of the comparison are those of docs/performance.md', () => {
  const measured = read('docs/performance.md')
  /** A number of the first row that begins so. */
  const cell = (row: string, column: number) => {
    const line = measured.split('\n').find((text) => text.startsWith(`| ${row} `)) ?? ''
    const text = line.split('|')[column + 1]?.trim().replaceAll(',', '') ?? ''
    assert.match(text, /^[\d.]+$/, `${row}: ${line}`)
    return Number(text)
  }
  const us = (row: string) => Math.round(cell(row, 1) / 1000)
  const text = part('Comparison')
  for (const expected of [
    `${us('`acquireLockSync`')} sync, ${us('`acquireLock`')} async`,
    `${us('the TypeScript original')} async`,
    `${us('`proper-lockfile` sync')} sync, ${us('`proper-lockfile` async')} async`,
    `${us('`lockfile` sync (writes nothing)')} sync, ${us('`lockfile` async')} async`,
  ])
    assert.ok(text.includes(`| ${expected} `), expected)
  const handOver = measured.slice(measured.indexOf('## Hand-over'))
  const p50 = (from: string, row: string) => {
    const line = handOver
      .slice(handOver.indexOf(from))
      .split('\n')
      .find((each) => each.startsWith(`| ${row} `))
    return Number(line?.split('|')[3]?.replaceAll(',', '')) / 1000
  }
  const waited = [p50('| hand-over', '`acquireLock`'), p50('| hand-over', '`proper-lockfile`, `retries: 10`')]
  const killed = [
    p50('| after SIGKILL', '`acquireLock`'),
    p50('| after SIGKILL', 'the original, polled every 200 ms'),
    p50('| after SIGKILL', '`proper-lockfile`, `retries: 10`, `stale: 2000`'),
  ]
  const row = (start: string) => text.split('\n').find((line) => line.startsWith(`| ${start}`)) ?? ''
  assert.ok(row('hand-over').includes(`| ${waited[0]?.toFixed(2)} `), `${waited[0]}`)
  assert.ok(row('hand-over').includes(`| ${waited[1]?.toFixed(0)} `), `${waited[1]}`)
  assert.ok(row('after SIGKILL').includes(`| ${killed[0]?.toFixed(1)} `), `${killed[0]}`)
  assert.ok(row('after SIGKILL').includes(`| ${killed[1]?.toFixed(0)} `), `${killed[1]}`)
  assert.ok(
    row('after SIGKILL').includes(`| ${killed[2]?.toLocaleString('en', { maximumFractionDigits: 0 })} `),
  )
})
