// Makes the packages to publish: the main package, and one for each platform.
//
// They are made in a separate directory. The clone's package.json names no platform packages, because they can be
// installed only when they are published; napi's `pre-publish` adds them here.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { readOptions } from './cli.mjs'
import { thirdPartyLicenses } from './licenses.mjs'
import { bundle, napi, root, run } from './steps.mjs'
import { currentTarget, platformOf } from './targets.mjs'

const usage = `usage: npm run release -- --artifacts DIRECTORY [--out DIRECTORY]
       npm run release -- --here [--out DIRECTORY]

  --artifacts  where the binaries of all targets lie, below any directories (reconcile-lock.<platform>.node)
  --here       packs for this machine alone, with the binary that npm run build has made
  --out        where the packages are made (target/release-packages): package/ as it is packed, and *.tgz

It publishes nothing. binding.d.ts must have been built (npm run build).`

/** The main package, without the clone's own binary. */
function copyPackage(home) {
  const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8'))
  const files = manifest.files.filter((name) => !name.endsWith('.node'))
  const bundles = 'dist/'
  for (const name of [...files.filter((name) => name !== bundles), 'README.md', 'LICENSE'])
    cpSync(join(root, name), join(home, name), { recursive: true })
  // Not in the clone, where tests or programs may use the bundle meanwhile.
  bundle(join(home, bundles))
  const { devDependencies: _, scripts: __, ...published } = manifest
  published.files = files
  if (here) published.napi.targets = [targetHere(published.napi.targets)]
  writeFileSync(join(home, 'package.json'), `${JSON.stringify(published, null, 2)}\n`)
}

/** The target whose binary `npm run build` makes on this machine. */
function targetHere(targets) {
  const name = currentTarget()
  const found = targets.find((triple) => platformOf(triple).name === name)
  if (found === undefined) throw new Error(`no package is published for ${name}`)
  return found
}

/** A directory with only this machine's binary, for napi: the clone may contain others. */
function ownBinary() {
  const directory = mkdtempSync(join(tmpdir(), 'reconcile-lock-binary-'))
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
  const file = `reconcile-lock.${currentTarget()}.node`
  cpSync(join(root, file), join(directory, file))
  return directory
}

/** Adds LICENSE, and the licences of the crates that are compiled into a binary. */
function addLicenses(home) {
  const path = join(home, 'package.json')
  const manifest = JSON.parse(readFileSync(path, 'utf8'))
  manifest.files.push(THIRD_PARTY)
  writeFileSync(path, `${JSON.stringify(manifest, null, 2)}\n`)
  cpSync(join(root, 'LICENSE'), join(home, 'LICENSE'))
  writeFileSync(join(home, THIRD_PARTY), thirdPartyLicenses())
}

const THIRD_PARTY = 'THIRD-PARTY-LICENSES.txt'

const { here, ...options } = readOptions(usage, {
  artifacts: {},
  here: { type: 'boolean' },
  out: { default: `${root}target/release-packages` },
})
if ((options.artifacts === undefined) === !here) {
  console.error(`give either --artifacts or --here\n\n${usage}`)
  process.exit(2)
}
const artifacts = here ? ownBinary() : resolve(options.artifacts)
const out = resolve(options.out)
const home = join(out, 'package')
rmSync(out, { recursive: true, force: true })
mkdirSync(home, { recursive: true })
copyPackage(home)
napi(['create-npm-dirs'], home)
napi(['artifacts', '--output-dir', artifacts], home)
// Without these flags it would publish each package before the check of all.
napi(['pre-publish', '--skip-optional-publish', '--no-gh-release'], home)
// napi's `artifacts` puts the binaries beside the loader too.
for (const name of readdirSync(home).filter((name) => name.endsWith('.node'))) rmSync(join(home, name))
const platforms = readdirSync(join(home, 'npm')).map((name) => join(home, 'npm', name))
for (const each of platforms) addLicenses(each)
run(process.execPath, [`${root}tools/check-release.mjs`, home, ...(here ? ['--here'] : [])])
const packages = [home, ...platforms]
run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', out, ...packages], {
  shell: process.platform === 'win32',
})
