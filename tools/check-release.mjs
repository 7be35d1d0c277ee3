// `npm run check:release -- DIRECTORY`: checks that a release is complete, and reports all faults.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { faultOf } from './binaries.mjs'
import { root } from './steps.mjs'

const [home] = process.argv.slice(2)
if (home === undefined || home.startsWith('-')) {
  console.error(`usage: npm run check:release -- DIRECTORY

DIRECTORY holds the main package and, in npm/, the package of each platform that it depends on.`)
  process.exit(64)
}

const read = (...path) => readFileSync(join(...path), 'utf8')

function fault(text) {
  console.error(text)
  process.exitCode = 1
}

/** Finds relative links that lead out of the package, and pages of the repository named without a link. */
function checkLinks() {
  for (const name of ['README.md', 'CHANGELOG.md', 'index.d.ts', 'postgres.d.ts']) {
    const text = read(home, name)
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map(([, file]) => file)
    const mentions = name.endsWith('.ts') ? (text.match(/(?<!\S)`?docs\/\S+\.md/g) ?? []) : []
    for (const file of [...links, ...mentions].filter((file) => !existsSync(join(home, file))))
      fault(`${name} names ${file}, which the package does not contain`)
  }
}

/** Compares the files that npm would publish with the lists: the directory of each package, and its files. */
function checkFiles(lists) {
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts', ...lists.map(([directory]) => directory)]
  // With a shell, because npm is a script on Windows.
  const settings = { cwd: home, encoding: 'utf8', shell: process.platform === 'win32', maxBuffer: 1 << 28 }
  const packages = JSON.parse(execFileSync('npm', args, settings))
  for (const [index, [, wanted]] of lists.entries()) {
    const { name, size, unpackedSize, files } = packages[index]
    const packed = files.map(({ path }) => path)
    for (const file of packed.filter((path) => !wanted.includes(path))) fault(`${name} holds ${file}`)
    for (const file of wanted.filter((path) => !packed.includes(path))) fault(`${name} lacks ${file}`)
    console.log(`${name} ${size} bytes packed, ${unpackedSize} unpacked`)
  }
}

const { version, optionalDependencies } = JSON.parse(read(home, 'package.json'))
const [, crate] = /^version = "(.+)"$/m.exec(read(root, 'Cargo.toml'))
if (version !== crate) fault(`the main package has version ${version}, and Cargo.toml has ${crate}`)
checkLinks()
const listed = JSON.parse(read(root, 'tools/package-files.json'))
const lists = [['.', listed.main]]
for (const name of Object.keys(optionalDependencies)) {
  const directory = `./npm/${basename(name)}`
  const { main, os, cpu, libc = [] } = JSON.parse(read(home, directory, 'package.json'))
  const path = join(home, directory, main)
  const why = existsSync(path) ? faultOf(path, { os: os[0], cpu: cpu[0], libc: libc[0] }) : 'is missing'
  if (why !== undefined) fault(`${path} ${why}`)
  lists.push([directory, [...listed.platform, main]])
}
checkFiles(lists)
if (process.exitCode !== 1) console.log('the release is complete')
