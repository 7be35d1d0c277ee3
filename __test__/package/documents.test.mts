// The documents: their links, their code, and their tables, compared with the package.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { exitCodes } from '../../lib/cli/exit-codes.js'
import { blocksOf, complaints } from '../support/blocks.mjs'
import { root } from '../support/packages.mjs'

const require = createRequire(import.meta.url)
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const documents = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'CHANGELOG.md',
  ...readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' }).flatMap((name) =>
    name.endsWith('.md') ? [`docs/${name}`] : [],
  ),
]

/** A heading as GitHub names it in a link. */
const anchor = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(' ', '-')
const anchors = (text: string) => [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => anchor(heading))
const headings = (text: string) => [...text.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading)

for (const path of documents) {
  test(`links of ${path} to project files are valid`, () => {
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

test('README.md has its picture and sections in order', () => {
  const text = read('README.md')
  assert.ok(text.indexOf('docs/two-runs.svg') < text.indexOf('## '))
  assert.deepEqual(headings(text), [
    'Install',
    'Use it in a program',
    'Use it in cron or CI',
    'Guarantees',
    'Limits',
    'API',
    'Errors',
    'Several machines',
    'Comparison',
    'Platforms',
    'Documentation',
  ])
})

test('README.md has at most 160 lines, its first example ten', () => {
  assert.ok(read('README.md').trim().split('\n').length <= 160)
  const [code = ''] = blocksOf('README.md')
  assert.match(code, /withLock/)
  assert.ok(code.trim().split('\n').length <= 10)
})

test('the code of README.md type-checks', (t) => {
  const blocks = blocksOf('README.md')
  assert.equal(blocks.length, 3)
  const declared = 'declare function postPayments(): Promise<void>\nexport {}\n'
  const code = blocks.map((block) => `${block}\n${declared}`)
  assert.equal(complaints(t, code), '')
  assert.match(complaints(t, ["import { acquire } from 'reconcile-lock'\nacquire()\n"]), /no exported member/)
})

/** The part of a document below a heading. */
function part(path: string, heading: string): string {
  const [, text = ''] = new RegExp(`^## ${heading}\\n(.*?)(?=^## |(?![^]))`, 'ms').exec(read(path)) ?? []
  assert.notEqual(text, '', `${path}: ${heading}`)
  return text
}

/** The first cells of the rows of tables. */
const firstCells = (text: string) => [...text.matchAll(/^\| (.*?) +\|/gm)].map(([, cell = '']) => cell)

test('docs/errors.md lists exactly the error codes of index.d.ts', () => {
  const codes = (text: string) => [...new Set(text.match(/\bE_LOCK_\w+/g))].sort()
  const named = codes(firstCells(read('docs/errors.md')).join())
  assert.deepEqual(named, codes(read('index.d.ts')))
  const ofReadme = codes(part('README.md', 'Errors'))
  assert.ok(ofReadme.length > 0)
  for (const code of ofReadme) assert.ok(named.includes(code), code)
})

test('docs/errors.md lists each ERR_ code that lib throws', () => {
  const named = firstCells(read('docs/errors.md')).join()
  const sources = ['lib', 'lib/shared', 'lib/postgres'].flatMap((folder) =>
    readdirSync(join(root, folder)).flatMap((name) =>
      name.endsWith('.ts') ? [read(`${folder}/${name}`)] : [],
    ),
  )
  const thrown = sources.join().matchAll(/(?:argumentError\(\s*\w+,\s*|\bcode: )'(ERR_\w+)'/g)
  // `fileURLToPath` throws the last two.
  const codes = new Set(['ERR_INVALID_FILE_URL_HOST', 'ERR_INVALID_FILE_URL_PATH'])
  for (const [, code = ''] of thrown) codes.add(code)
  assert.ok(codes.size >= 8, [...codes].join())
  for (const code of codes) assert.ok(named.includes(`\`${code}\``), code)
})

test('the tables of exit codes match the command line', () => {
  const codes: number[] = Object.values(exitCodes)
  const named = (text: string) =>
    firstCells(text)
      .filter((cell) => /^[\d, ]+$/.test(cell))
      .flatMap((cell) => cell.split(', ').map(Number))
  assert.deepEqual(named(part('docs/cli.md', 'Exit codes')).sort(), codes.sort())
  const ofReadme = named(part('README.md', 'Use it in cron or CI'))
  assert.ok(ofReadme.length > 0)
  for (const code of ofReadme) assert.ok(codes.includes(code), `${code}`)
})

test('docs/cli.md lists every option of the command line', () => {
  const text = part('docs/cli.md', 'Commands')
  for (const topic of ['run', 'status', 'break', 'sql', 'completion']) {
    const { stdout } = spawnSync(process.execPath, [join(root, 'bin/reconcile-lock.js'), topic, '--help'])
    const listed = Array.from(String(stdout).matchAll(/(?<=^ {2}(?:-\w, )?)--[\w-]+/gm), ([option]) => option)
    assert.ok(listed.includes('--help'), topic)
    for (const option of listed)
      assert.ok(option === '--help' || new RegExp(`${option}(?![\\w-])`).test(text), option)
  }
})

test('README.md and docs/api.md name every exported function', () => {
  const names = Object.keys(require(root)).filter((name) => name !== 'LockError')
  for (const path of ['README.md', 'docs/api.md'])
    for (const name of names) assert.match(read(path), new RegExp(`\`${name}\\b`), `${path}: ${name}`)
})

test('the table of README.md lists every published target', () => {
  const { napi }: { napi: { targets: string[] } } = JSON.parse(read('package.json'))
  const words: Record<string, string> = {
    'x86_64-unknown-linux-gnu': 'Linux x64, glibc',
    'aarch64-unknown-linux-gnu': 'Linux arm64, glibc',
    'x86_64-unknown-linux-musl': 'Linux x64, .*musl',
    'aarch64-unknown-linux-musl': 'Linux arm64, .*musl',
    'armv7-unknown-linux-gnueabihf': 'Linux .*armv7',
    'riscv64gc-unknown-linux-gnu': 'Linux .*riscv64',
    's390x-unknown-linux-gnu': 'Linux .*s390x',
    'aarch64-apple-darwin': 'macOS arm64',
    'x86_64-apple-darwin': 'macOS .*x64',
    'x86_64-pc-windows-msvc': 'Windows x64',
    'aarch64-pc-windows-msvc': 'Windows .*arm64',
  }
  const states = read('docs/platforms.md')
  for (const target of napi.targets) {
    const [, state = 'none'] = new RegExp(`\\| \`${target}\` +\\| (\\w+)`).exec(states) ?? []
    const row = new RegExp(`^\\| ${words[target]}\\b.*\\| ${state}\\b`, 'm')
    assert.match(part('README.md', 'Platforms'), row, target)
  }
})

interface Cross {
  targets: { name: string; glibc?: string }[]
  withTable(page: string, states?: Record<string, string>): string
}
const { targets, withTable }: Cross = await import(pathToFileURL(join(root, 'tools/cross/targets.mjs')).href)

test('docs/platforms.md has the table of npm run cross', () => {
  const page = read('docs/platforms.md')
  assert.equal(withTable(page), page)
  const musl = 'x86_64-unknown-linux-musl'
  const lower = withTable(page, { [musl]: 'built' })
  assert.match(lower, new RegExp(`\\| \`${musl}\` +\\| built `))
  assert.equal(withTable(lower, { [musl]: 'tested' }), page)
})

test('the workflow builds and hashes every published target', () => {
  const { napi }: { napi: { targets: string[] } } = JSON.parse(read('package.json'))
  const workflow = read('.github/workflows/ci.yml')
  for (const target of napi.targets) {
    const { glibc } = targets.find(({ name }) => name === target) ?? assert.fail(`${target}: npm run cross`)
    const build = glibc === undefined ? target : `${target}.${glibc}`
    assert.match(workflow, new RegExp(`- \\{\\s+target: ${target},\\s+os: \\S+,\\s+build: ${build}[ ,]`))
    assert.ok(workflow.includes(`      ${target}: \${{ steps.hash.outputs.${target} }}\n`), target)
  }
})

test('SECURITY.md states the number of modules with unsafe code', () => {
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  const unsafe = sources.filter(
    (path) => path.endsWith('.rs') && read(`src/${path}`).includes('allow(unsafe_code'),
  )
  const words = ['No', 'One', 'Two', 'Three', 'Four', 'Five', 'Six', 'Seven', 'Eight']
  assert.ok(
    read('SECURITY.md').includes(`${words[unsafe.length]} modules of the crate contain`),
    unsafe.join(),
  )
})

test('every row of docs/guarantees.md names a test or none', () => {
  for (const heading of [
    'End of the holder',
    'During the life of the holder',
    'The file and its directory',
  ]) {
    const rows = part('docs/guarantees.md', heading).match(/^\| (?!event|---).*$/gm) ?? []
    assert.ok(rows.length > 5, heading)
    for (const row of rows) assert.match(row, /\| (none|\[.*\]\(\.\.\/__test__\/.*\)) +\|$/)
  }
})
