// Makes the packages to publish: the main package, and one for each platform.
//
// They are made in a separate directory. The clone's package.json names no platform packages, because they can be
// installed only when they are published.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { readOptions } from './cli.mjs'
import { billOfMaterials, linkedCrates, thirdPartyLicenses } from './licenses.mjs'
import { bundle, root, run } from './steps.mjs'
import { platformOf } from './targets.mjs'

const usage = `usage: npm run release -- --artifacts DIRECTORY [--out DIRECTORY]
       npm run release -- --here [--out DIRECTORY]

  --artifacts  where the binaries of all targets lie, below any directories (reconcile-lock.<platform>.node)
  --here       packs for this machine alone, with the binary that npm run build has made
  --out        where the packages are made (target/release-packages): package/ as it is packed, and *.tgz

It publishes nothing. binding.d.ts must have been built (npm run build).`

const { here, artifacts, out } = readOptions(usage, {
  artifacts: { read: resolve },
  here: { type: 'boolean', default: false },
  out: { default: `${root}target/release-packages`, read: resolve },
})
if (here === (artifacts !== undefined)) {
  console.error(`give either --artifacts or --here\n\n${usage}`)
  process.exit(2)
}
const home = join(out, 'package')
const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8'))
const { version, license, repository, homepage, bugs, engines } = manifest

const isHere = ({ os, cpu, libc }) =>
  os === process.platform &&
  cpu === process.arch &&
  (libc === 'glibc') === (process.report.getReport().header.glibcVersionRuntime !== undefined)

const platforms = manifest.napi.targets.map(platformOf).filter(here ? isHere : () => true)
if (platforms.length === 0) {
  console.error('No package is published for this machine: docs/platforms.md describes the build from source')
  process.exit(1)
}
const source = artifacts ?? root
const crates = linkedCrates()
const binaries = readdirSync(source, { recursive: !here })

function writeManifest(directory, content) {
  mkdirSync(directory, { recursive: true })
  writeFileSync(join(directory, 'package.json'), `${JSON.stringify(content, null, 2)}\n`)
}

/** Makes the main package, without the clone's own binary. */
function makeMainPackage() {
  const files = manifest.files.filter((name) => !name.endsWith('.node'))
  const bundles = 'dist/'
  for (const name of [...files.filter((name) => name !== bundles), 'README.md', 'LICENSE'])
    cpSync(join(root, name), join(home, name), { recursive: true })
  // Not in the clone, where tests or programs may use the bundle meanwhile.
  bundle(join(home, bundles))
  for (const name of ['README.md', 'CHANGELOG.md']) linkToRepository(name)
  const { devDependencies: _, scripts: __, ...published } = manifest
  const optionalDependencies = Object.fromEntries(platforms.map((platform) => [platform.package, version]))
  writeManifest(home, { ...published, files, optionalDependencies })
}

/** Links what the main package does not contain to the repository, at the tag of this version. */
function linkToRepository(name) {
  const text = readFileSync(join(home, name), 'utf8')
  const repository = homepage.replace('#readme', '')
  const linked = text.replaceAll(/(!\[[^\]]*)?\]\((?!https?:|#)([^)#\s]+)/g, (link, image, file) =>
    existsSync(join(home, file))
      ? link
      : `${image ?? ''}](${repository}/${image ? 'raw' : 'blob'}/v${version}/${file}`,
  )
  writeFileSync(join(home, name), linked)
}

/** Makes the package of a platform: its binary, the project's licence, and the crates in the binary with theirs. */
function makePlatformPackage({ package: name, name: platform, os, cpu, libc }) {
  const directory = join(home, 'npm', platform)
  const main = `${manifest.napi.binaryName}.${platform}.node`
  const description = `The binary of ${manifest.name} for ${platform}`
  const about = { name, version, description, license, repository, homepage, bugs, engines }
  const where = { os: [os], cpu: [cpu], ...(libc && { libc: [libc] }) }
  const files = [main, 'THIRD-PARTY-LICENSES.txt', 'sbom.cdx.json']
  writeManifest(directory, { ...about, ...where, main, files })
  const binary = binaries.find((path) => basename(path) === main)
  // The check of the release names what is missing.
  if (binary !== undefined) cpSync(join(source, binary), join(directory, main))
  cpSync(join(root, 'LICENSE'), join(directory, 'LICENSE'))
  writeFileSync(join(directory, 'THIRD-PARTY-LICENSES.txt'), thirdPartyLicenses(crates))
  writeFileSync(join(directory, 'sbom.cdx.json'), billOfMaterials(crates, name, version))
  const readme = `# ${name}\n\n${description}. Install ${manifest.name}, which depends on it.\n`
  writeFileSync(join(directory, 'README.md'), readme)
  return directory
}

rmSync(out, { recursive: true, force: true })
makeMainPackage()
const directories = platforms.map(makePlatformPackage)
run(process.execPath, [`${root}tools/check-release.mjs`, home])
run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', out, home, ...directories], {
  shell: process.platform === 'win32',
})
