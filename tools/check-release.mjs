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
  checkFiles()
}

/** Checks the files that npm would publish in the main package. */
function checkFiles() {
  // With a shell, because npm is a script on Windows.
  const command = 'npm pack --dry-run --json --ignore-scripts'
  const [packed] = JSON.parse(execFileSync(command, { cwd: home, encoding: 'utf8', shell: true }))
  const files = packed.files.map(({ path }) => path)
  for (const binary of files.filter((path) => path.endsWith('.node')))
    fault(`the main package holds ${binary}`)
  for (const needed of ['dist/index.js', 'dist/postgres.js', 'dist/cli.js', 'dist/shared.js'])
    if (!files.includes(needed)) fault(`the main package lacks ${needed}`)
  const { scripts } = read(join(home, 'package.json'))
  if (scripts !== undefined) fault(`the main package has scripts: ${Object.keys(scripts).join(', ')}`)
  console.log(`${declared.name} ${packed.size} bytes packed, ${packed.unpackedSize} unpacked`)
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
    files: [main, 'THIRD-PARTY-LICENSES.txt'],
  }
  const found = read(join(path, 'package.json'))
  for (const [key, value] of Object.entries(wanted)) {
    if (JSON.stringify(found[key]) !== JSON.stringify(value))
      fault(`${triple}: ${key} is ${JSON.stringify(found[key])}, not ${JSON.stringify(value)}`)
  }
  for (const file of ['LICENSE', 'THIRD-PARTY-LICENSES.txt'])
    if (!existsSync(join(path, file))) fault(`${triple}: ${join(path, file)} is missing`)
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
  const libc = binary.glibc ? `, glibc ${binary.glibc} or newer` : ''
  console.log(`${platform.package} ${binary.size} bytes${libc}`)
}

if (here === '--here') declared.napi.targets = read(join(home, 'package.json')).napi.targets
checkMain()
for (const triple of declared.napi.targets) checkTarget(triple)
for (const text of faults) console.error(text)
console.log(faults.length === 0 ? 'the release is complete' : `${faults.length} faults`)
process.exitCode = faults.length === 0 ? 0 : 1
