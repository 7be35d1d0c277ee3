// Makes what is published: the main package, and one package for each platform, packed.
//
// All of it happens in a directory of its own. The clone's package.json names no platform packages, as they can be
// installed only when they are published; napi's `pre-publish` adds them here.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { compilePostgres, napi, root, run } from './steps.mjs'

const usage = `usage: npm run release -- --artifacts DIRECTORY [--out DIRECTORY]

  --artifacts  where the binaries of all targets lie, below any directories (reconcile-lock.<platform>.node)
  --out        where the packages are made (target/release-packages): package/ as it is packed, and *.tgz

It publishes nothing. binding.js must have been built (npm run build).`

/** What Rust needs to build the package where there is no binary, as cargo publishes it. */
const SOURCES = ['src', 'build.rs', 'Cargo.toml', 'Cargo.lock']

function parse() {
  try {
    const { values } = parseArgs({
      options: {
        artifacts: { type: 'string' },
        out: { type: 'string', default: `${root}target/release-packages` },
      },
    })
    if (values.artifacts === undefined) throw new Error('--artifacts is missing')
    return { artifacts: resolve(values.artifacts), out: resolve(values.out) }
  } catch (error) {
    console.error(`${error.message}\n\n${usage}`)
    return process.exit(64)
  }
}

/** The crate's own manifest and lock file: those of the clone name a workspace that is not published. */
function copySources(home) {
  const temporary = mkdtempSync(join(tmpdir(), 'reconcile-lock-crate-'))
  process.on('exit', () => rmSync(temporary, { recursive: true, force: true }))
  const packing = [
    'package',
    '--package',
    'reconcile-lock',
    '--no-verify',
    '--allow-dirty',
    '--locked',
    '--quiet',
  ]
  run('cargo', [...packing, '--target-dir', temporary])
  const crates = join(temporary, 'package')
  const [crate] = readdirSync(crates).filter((name) => name.endsWith('.crate'))
  run('tar', ['-xzf', crate], { cwd: crates })
  for (const name of SOURCES)
    cpSync(join(crates, crate.replace(/\.crate$/, ''), name), join(home, name), { recursive: true })
}

/** The main package, without the clone's own binary. */
function copyPackage(home) {
  const manifest = JSON.parse(readFileSync(`${root}package.json`, 'utf8'))
  const files = manifest.files.filter((name) => !name.endsWith('.node'))
  const compiled = 'postgres/dist/'
  for (const name of [...files.filter((name) => name !== compiled), 'README.md', 'LICENSE'])
    cpSync(join(root, name), join(home, name), { recursive: true })
  // Not in the clone, where tests or programs may use it meanwhile.
  compilePostgres(join(home, compiled))
  const { devDependencies: _, scripts, ...published } = manifest
  Object.assign(published, { files: [...files, ...SOURCES], scripts: { install: scripts.install } })
  writeFileSync(join(home, 'package.json'), `${JSON.stringify(published, null, 2)}\n`)
}

const { artifacts, out } = parse()
const home = join(out, 'package')
rmSync(out, { recursive: true, force: true })
mkdirSync(home, { recursive: true })
copyPackage(home)
copySources(home)
napi(['create-npm-dirs'], home)
napi(['artifacts', '--output-dir', artifacts], home)
// It would publish by itself, one after the other, before anybody has checked them.
napi(['pre-publish', '--skip-optional-publish', '--no-gh-release'], home)
// napi's `artifacts` puts the binaries beside the loader too.
for (const name of readdirSync(home).filter((name) => name.endsWith('.node'))) rmSync(join(home, name))
run(process.execPath, [`${root}scripts/check-release.mjs`, home])
const packages = [home, ...readdirSync(join(home, 'npm')).map((name) => join(home, 'npm', name))]
run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', out, ...packages], {
  shell: process.platform === 'win32',
})
