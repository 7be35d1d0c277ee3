// Makes the packages to publish: the main package, and one for each platform.
//
// They are made in a separate directory. The clone's package.json names no platform packages, because they can be
// installed only when they are published.
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { readOptions } from './cli.mjs'
import { billOfMaterials, thirdPartyLicenses } from './licenses.mjs'
import { bundle, root, run } from './steps.mjs'
import { currentTarget, platformOf } from './targets.mjs'

const usage = `usage: npm run release -- --artifacts DIRECTORY [--out DIRECTORY]
       npm run release -- --here [--out DIRECTORY]

  --artifacts  where the binaries of all targets lie, below any directories (reconcile-lock.<platform>.node)
  --here       packs for this machine alone, with the binary that npm run build has made
  --out        where the packages are made (target/release-packages): package/ as it is packed, and *.tgz

It publishes nothing. binding.d.ts must have been built (npm run build).`

const THIRD_PARTY = 'THIRD-PARTY-LICENSES.txt'
const SBOM = 'sbom.cdx.json'
const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8'))

const writeManifest = (home, content) =>
  writeFileSync(join(home, 'package.json'), `${JSON.stringify(content, null, 2)}\n`)

/** The main package, without the clone's own binary. */
function makeMainPackage(home, targets) {
  const files = manifest.files.filter((name) => !name.endsWith('.node'))
  const bundles = 'dist/'
  for (const name of [...files.filter((name) => name !== bundles), 'README.md', 'LICENSE'])
    cpSync(join(root, name), join(home, name), { recursive: true })
  // Not in the clone, where tests or programs may use the bundle meanwhile.
  bundle(join(home, bundles))
  for (const name of ['README.md', 'CHANGELOG.md']) linkToRepository(home, name)
  const { devDependencies: _, scripts: __, ...published } = manifest
  const { version, napi } = manifest
  const platforms = targets.map((triple) => [platformOf(triple).package, version])
  const optionalDependencies = Object.fromEntries(platforms)
  writeManifest(home, { ...published, files, napi: { ...napi, targets }, optionalDependencies })
}

/** Links what the package does not contain to the repository, at the tag of this version. */
function linkToRepository(home, name) {
  const text = readFileSync(join(home, name), 'utf8')
  const repository = manifest.homepage.replace('#readme', '')
  const linked = text.replaceAll(/(!\[[^\]]*)?\]\((?!https?:|#)([^)#\s]+)/g, (link, image, file) =>
    existsSync(join(home, file))
      ? link
      : `${image ?? ''}](${repository}/${image ? 'raw' : 'blob'}/v${manifest.version}/${file}`,
  )
  writeFileSync(join(home, name), linked)
}

/** The package with the binary of a platform, the project's licence, and the crates in the binary with theirs. */
function makePlatformPackage(home, triple, artifacts) {
  const { package: name, os, cpu, libc } = platformOf(triple)
  const main = basename(artifacts.get(triple))
  const { version, license, repository, homepage, bugs, engines } = manifest
  const description = `The binary of ${manifest.name} for ${triple}`
  const about = { description, license, repository, homepage, bugs, engines }
  const where = { os: [os], cpu: [cpu], ...(libc && { libc: [libc] }) }
  mkdirSync(home, { recursive: true })
  writeManifest(home, { name, version, ...about, ...where, main, files: [main, THIRD_PARTY, SBOM] })
  // The check of the release names what is missing.
  if (existsSync(artifacts.get(triple))) cpSync(artifacts.get(triple), join(home, main))
  cpSync(join(root, 'LICENSE'), join(home, 'LICENSE'))
  writeFileSync(join(home, THIRD_PARTY), thirdPartyLicenses())
  writeFileSync(join(home, SBOM), billOfMaterials(name, version))
  writeFileSync(
    join(home, 'README.md'),
    `# ${name}\n\n${description}. Install ${manifest.name}, which depends on it.\n`,
  )
}

/** The target whose binary `npm run build` makes on this machine. */
function targetHere() {
  const name = currentTarget()
  const found = manifest.napi.targets.find((triple) => platformOf(triple).name === name)
  if (found === undefined) throw new Error(`no package is published for ${name}`)
  return found
}

const { here, ...options } = readOptions(usage, {
  artifacts: {},
  here: { type: 'boolean' },
  out: { default: `${root}target/release-packages` },
})
if ((options.artifacts === undefined) === !here) {
  console.error(`give either --artifacts or --here\n\n${usage}`)
  process.exit(2)
}
const directory = here ? root : resolve(options.artifacts)
const found = readdirSync(directory, { recursive: !here })
const targets = here ? [targetHere()] : manifest.napi.targets
const artifacts = new Map(
  targets.map((triple) => {
    const file = `${manifest.napi.binaryName}.${platformOf(triple).name}.node`
    return [triple, join(directory, found.find((path) => basename(path) === file) ?? file)]
  }),
)
const out = resolve(options.out)
const home = join(out, 'package')
rmSync(out, { recursive: true, force: true })
mkdirSync(home, { recursive: true })
makeMainPackage(home, targets)
const platforms = targets.map((triple) => join(home, 'npm', platformOf(triple).name))
for (const [index, each] of platforms.entries()) makePlatformPackage(each, targets[index], artifacts)
run(process.execPath, [`${root}tools/check-release.mjs`, home])
const packages = [home, ...platforms]
run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', out, ...packages], {
  shell: process.platform === 'win32',
})
