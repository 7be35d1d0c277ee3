// `npm run check:release -- DIRECTORY`: checks that a release is complete, and reports all faults.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { isFor, readBinary } from './binaries.mjs'
import { root } from './steps.mjs'
import { platformOf } from './targets.mjs'

const usage = `usage: npm run check:release -- DIRECTORY [--here]

DIRECTORY holds the main package and, in npm/, one package for each of the targets that package.json declares.
With --here it holds that of one target.`

const [directory, here] = process.argv.slice(2)
if (directory === undefined || directory.startsWith('-')) {
  console.error(usage)
  process.exit(64)
}
const home = resolve(directory)

/** The manifest of this project: the one in the directory may declare less. */
const declared = read(join(root, 'package.json'))
/** The files of each package. */
const listed = read(join(root, 'tools/package-files.json'))
/** The directories of packages, with the files of each. */
const directories = new Map()
const faults = []
const fault = (text) => faults.push(text)

function read(path) {
  return JSON.parse(readFileSync(path, 'utf8'))
}

function checkMain() {
  const path = join(home, 'package.json')
  if (!existsSync(path)) return fault(`${path} is missing`)
  const { version, optionalDependencies = {} } = read(path)
  const { 1: crate } = readFileSync(join(root, 'Cargo.toml'), 'utf8').match(/^version = "(.+)"$/m) ?? []
  for (const [what, found] of [
    ['the main package', version],
    ['Cargo.toml', crate],
  ])
    if (found !== declared.version) fault(`${what} is of version ${found}, not ${declared.version}`)
  const wanted = Object.fromEntries(
    declared.napi.targets.map((triple) => [platformOf(triple).package, declared.version]),
  )
  for (const each of new Set([...Object.keys(wanted), ...Object.keys(optionalDependencies)])) {
    if (optionalDependencies[each] !== wanted[each])
      fault(`optionalDependencies: ${each} is ${optionalDependencies[each]}, not ${wanted[each]}`)
  }
  const { scripts } = read(path)
  if (scripts !== undefined) fault(`the main package has scripts: ${Object.keys(scripts).join(', ')}`)
  directories.set('.', ['the main package', listed.main])
  checkLinks()
}

/**
 * Compares the files that npm would publish with the lists.
 * @param {Map<string, [what: string, wanted: string[]]>} lists by directory
 */
function checkFiles(lists) {
  // With a shell, because npm is a script on Windows.
  const settings = { cwd: home, encoding: 'utf8', shell: process.platform === 'win32', maxBuffer: 1 << 28 }
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts', ...lists.keys()]
  for (const [index, packed] of JSON.parse(execFileSync('npm', args, settings)).entries()) {
    const [what, wanted] = [...lists.values()][index]
    const files = packed.files.map(({ path }) => path)
    for (const file of files.filter((path) => !wanted.includes(path))) fault(`${what} holds ${file}`)
    for (const file of wanted.filter((path) => !files.includes(path))) fault(`${what} lacks ${file}`)
    console.log(`${packed.name} ${packed.size} bytes packed, ${packed.unpackedSize} unpacked`)
  }
}

/** Finds relative links that lead out of the package, and pages of the repository named without a link. */
function checkLinks() {
  for (const name of ['README.md', 'CHANGELOG.md', 'index.d.ts', 'postgres.d.ts']) {
    const path = join(home, name)
    if (!existsSync(path)) continue
    const text = readFileSync(path, 'utf8')
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map(([, file]) => file)
    const mentions = name.endsWith('.ts') ? (text.match(/(?<!\S)`?docs\/\S+\.md/g) ?? []) : []
    for (const file of [...links, ...mentions].filter((file) => !existsSync(join(home, file))))
      fault(`${name} names ${file}, which the package does not contain`)
  }
}

/** Checks the package of one platform. */
function checkTarget(triple) {
  const platform = platformOf(triple)
  const path = join(home, 'npm', platform.name)
  if (!existsSync(join(path, 'package.json')))
    return fault(`${triple}: ${join(path, 'package.json')} is missing`)
  const main = `${declared.napi.binaryName}.${platform.name}.node`
  const wanted = {
    name: platform.package,
    version: declared.version,
    os: [platform.os],
    cpu: [platform.cpu],
    libc: platform.libc && [platform.libc],
    main,
    files: [main, 'THIRD-PARTY-LICENSES.txt', 'sbom.cdx.json'],
  }
  const found = read(join(path, 'package.json'))
  for (const [key, value] of Object.entries(wanted)) {
    if (JSON.stringify(found[key]) !== JSON.stringify(value))
      fault(`${triple}: ${key} is ${JSON.stringify(found[key])}, not ${JSON.stringify(value)}`)
  }
  directories.set(`./npm/${platform.name}`, [triple, [...listed.platform, main]])
  checkBinary(triple, platform, join(path, main))
}

function checkBinary(triple, platform, path) {
  if (!existsSync(path)) return fault(`${triple}: ${path} is missing`)
  const binary = readBinary(path)
  if (binary.size === 0) return fault(`${triple}: ${path} is empty`)
  if (!isFor(binary, platform))
    return fault(
      `${triple}: ${path} is ${binary.os ? `for ${binary.os} ${binary.cpu}` : 'no native library'}`,
    )
  if (binary.isTruncated) return fault(`${triple}: ${path} was cut off`)
  if ((platform.libc === 'glibc') !== (binary.glibc !== undefined))
    return fault(`${triple}: ${path} ${binary.glibc ? `needs glibc ${binary.glibc}` : 'does not use glibc'}`)
  if (binary.paths.length > 0) fault(`${triple}: ${path} contains ${binary.paths[0]}, a path of its builder`)
  const libc = binary.glibc ? `, glibc ${binary.glibc} or newer` : ''
  console.log(`${platform.package} ${binary.size} bytes${libc}`)
}

if (here === '--here') declared.napi.targets = read(join(home, 'package.json')).napi.targets
checkMain()
for (const triple of declared.napi.targets) checkTarget(triple)
checkFiles(directories)
for (const text of faults) console.error(text)
console.log(faults.length === 0 ? 'the release is complete' : `${faults.length} faults`)
process.exitCode = faults.length === 0 ? 0 : 1
