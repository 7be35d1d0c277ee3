// A release as its users have it: installed by npm, from a registry, with the one binary of their machine.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'
import { fileOf, here, layOut, makeRelease, manifest } from '../support/release.mjs'
import { npm, type Registry, serve } from './registry.mjs'

const release = makeRelease()
const { version } = manifest
const tarball = (name = '') => `reconcile-lock${name && `-${name}`}-${version}.tgz`
let registry: Registry

before(async () => {
  registry = await serve(release)
})
after(() => registry.close())

async function installed(t: TestContext, ...args: string[]): Promise<string> {
  const project = directory(t)
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true }))
  registry.fetched()
  const { code, stderr } = await npm(registry, project, ['install', manifest.name, ...args])
  assert.equal(code, 0, stderr)
  return project
}

const packages = (project: string) =>
  readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'))

function node(project: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: project, encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  return stdout
}

const locks = `
  const lock = await acquireLock()
  const refused = await acquireLock().catch((error: unknown) => error)
  console.log(refused instanceof LockError && refused.code, lock.isHeld())
  await lock.release()`
const said = 'E_LOCK_CONTENTION true\n'
const lockOnce = "require('reconcile-lock').acquireLockSync().releaseSync()"

test('npm fetches the main package and the binary of this machine, and it locks from every kind of module', async (t) => {
  const project = await installed(t)
  assert.deepEqual(packages(project), ['reconcile-lock', `reconcile-lock-${here}`])
  assert.deepEqual(registry.fetched(), [tarball(), tarball(here)].sort())
  const home = join(project, 'node_modules/reconcile-lock')
  assert.deepEqual(
    readdirSync(home).filter((name) => name.endsWith('.node')),
    [],
  )
  mkdirSync(join(project, 'node_modules/@types'))
  for (const name of ['@types/node', 'undici-types'])
    symlinkSync(join(root, 'node_modules', name), join(project, 'node_modules', name), 'junction')
  const names = "{ acquireLock, LockError } from 'reconcile-lock'\n"
  writeFileSync(join(project, 'esm.mts'), `import ${names}${locks}`)
  writeFileSync(join(project, 'cjs.cts'), `import ${names}!(async () => {${locks}})()`)
  const options = { module: 'nodenext', target: 'es2022', strict: true, skipLibCheck: false, types: ['node'] }
  const files = ['esm.mts', 'cjs.cts']
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files }))
  node(project, join(root, 'node_modules/typescript/bin/tsc'), '-p', '.')
  assert.deepEqual([node(project, 'esm.mjs'), node(project, 'cjs.cjs')], [said, said])
})

test('an installation from tarballs needs no registry', async (t) => {
  const project = directory(t)
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true }))
  const tarballs = ['', here].map((name) => join(release.packed, tarball(name)))
  registry.fetched()
  const { code, stderr } = await npm(registry, project, ['install', '--offline', ...tarballs])
  assert.equal(code, 0, stderr)
  assert.deepEqual(registry.fetched(), [])
  node(project, '-e', lockOnce)
})

test('the main package holds the sources and no binary', () => {
  const listed = spawnSync('tar', ['-tzf', tarball()], { cwd: release.packed, encoding: 'utf8' }).stdout
  const files = listed.trim().split('\n')
  for (const file of ['src/lib.rs', 'build.rs', 'Cargo.toml', 'Cargo.lock', 'install/build.js', 'LICENSE'])
    assert.ok(files.includes(`package/${file}`), file)
  const expected =
    /^package\/((src|lib|cli|bin|install|postgres\/dist)\/|postgres\/package\.json|index\.|binding\.|Cargo\.|build\.rs|package\.json|[A-Z]+\b)/
  assert.deepEqual(
    files.filter((file) => !expected.test(file) || file.endsWith('.node')),
    [],
  )
})

test('the crate holds nothing but itself', () => {
  const args = ['package', '--package', 'reconcile-lock', '--list', '--allow-dirty', '--offline']
  const { status, stdout, stderr } = spawnSync('cargo', args, { cwd: root, encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  const files = stdout.trim().split(/\r?\n/)
  assert.ok(files.includes('src/lib.rs') || files.includes('src\\lib.rs'), stdout)
  const expected =
    /^(src[/\\].*\.rs|build\.rs|Cargo\.(toml|toml\.orig|lock)|[A-Z]+(\.md)?|\.cargo_vcs_info\.json)$/
  assert.deepEqual(
    files.filter((file) => !expected.test(file)),
    [],
  )
})

test('for another machine npm fetches that machine’s binary, and here it is told what is wrong', async (t) => {
  const other = here === 'darwin-arm64' ? ['linux', 'x64', 'glibc'] : ['darwin', 'arm64']
  const [os, cpu, libc] = other
  const args = [`--os=${os}`, `--cpu=${cpu}`, ...(libc ? [`--libc=${libc}`] : [])]
  const project = await installed(t, ...args)
  const name = here === 'darwin-arm64' ? 'linux-x64-gnu' : 'darwin-arm64'
  assert.deepEqual(packages(project), ['reconcile-lock', `reconcile-lock-${name}`])
  const { status, stderr } = spawnSync(process.execPath, ['-e', lockOnce], { cwd: project, encoding: 'utf8' })
  assert.equal(status, 1)
  assert.ok(stderr.includes(`only that of ${name}: node_modules was installed for another platform`), stderr)
})

test('on musl npm fetches the binary for musl', async (t) => {
  const project = await installed(t, '--os=linux', '--cpu=x64', '--libc=musl')
  assert.deepEqual(packages(project), ['reconcile-lock', 'reconcile-lock-linux-x64-musl'])
})

/** Shared by all builds of this test, and kept, as each takes a minute otherwise. */
const target = { CARGO_TARGET_DIR: join(root, 'target/from-source'), CARGO_NET_OFFLINE: 'true' }

test('without optional dependencies it says so, and the command that it names mends it', async (t) => {
  const project = await installed(t, '--omit=optional')
  assert.deepEqual(packages(project), ['reconcile-lock'])
  const { status, stderr } = spawnSync(process.execPath, ['-e', lockOnce], { cwd: project, encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /optional dependencies were omitted/)
  const command = /to mend it: npm (rebuild reconcile-lock --build-from-source)$/m.exec(stderr)?.[1]
  assert.ok(command, stderr)
  const rebuilt = await npm(registry, project, command.split(' '), target)
  assert.equal(rebuilt.code, 0, rebuilt.stderr)
  const home = join(project, 'node_modules/reconcile-lock')
  assert.ok(existsSync(join(home, fileOf(here))), rebuilt.stderr)
  assert.equal(existsSync(join(home, 'target')), false)
  node(project, '-e', lockOnce)
})

test('where npm does not know that option, the other command mends it', async (t) => {
  const project = await installed(t, '--omit=optional')
  const { stderr } = spawnSync(process.execPath, ['-e', lockOnce], { cwd: project, encoding: 'utf8' })
  const [, script = '', option = ''] = /^ {2}or, .*: node "(.*)" (--\S+)$/m.exec(stderr) ?? []
  const env = { ...process.env, ...target, npm_config_build_from_source: undefined }
  const built = spawnSync(process.execPath, [script, option], {
    cwd: project,
    encoding: 'utf8',
    env,
  })
  assert.equal(built.status, 0, built.stderr)
  assert.match(built.stdout, /^reconcile-lock: built .*\.node\n$/)
  node(project, '-e', lockOnce)
})

/** The install script, as npm runs it. */
function install(home: string, env: NodeJS.ProcessEnv) {
  const args = [join(home, 'install/from-source.js')]
  return spawnSync(process.execPath, args, { cwd: home, encoding: 'utf8', env: { ...process.env, ...env } })
}

/** A package without sources, in which nothing could be built. */
function bare(t: TestContext): string {
  const home = layOut(release, directory(t))
  assert.equal(existsSync(join(home, 'src')), false)
  return home
}

for (const asked of [undefined, '', 'false', 'another-package']) {
  test(`the install script does and prints nothing for --build-from-source=${asked}`, (t) => {
    const home = bare(t)
    const before = readdirSync(home)
    const { status, stdout, stderr } = install(home, { npm_config_build_from_source: asked, PATH: '' })
    assert.deepEqual([status, stdout, stderr], [0, '', ''])
    assert.deepEqual(readdirSync(home), before)
  })
}

test('there is no other script that an installation would run', () => {
  const { scripts } = JSON.parse(
    spawnSync('tar', ['-xzOf', tarball(), 'package/package.json'], { cwd: release.packed, encoding: 'utf8' })
      .stdout,
  )
  assert.deepEqual(scripts, { install: 'node install/from-source.js' })
})

for (const asked of ['true', 'reconcile-lock', 'another,reconcile-lock']) {
  test(`without Rust, --build-from-source=${asked} says where to get it`, (t) => {
    const home = bare(t)
    const { status, stderr } = install(home, { npm_config_build_from_source: asked, PATH: '' })
    assert.equal(status, 1)
    assert.match(
      stderr,
      /^reconcile-lock: Rust was not found .* needs Rust 1\.\d+ or newer, from https:\/\/rustup\.rs/,
    )
  })
}

/** A `cargo` that does what `script` says. */
function pretended(t: TestContext, script: string): NodeJS.ProcessEnv {
  const bin = directory(t)
  writeFileSync(join(bin, 'cargo'), `#!/bin/sh\n${script}\n`)
  chmodSync(join(bin, 'cargo'), 0o755)
  return { npm_config_build_from_source: 'true', PATH: `${bin}:${process.env.PATH}` }
}
const skip = process.platform === 'win32' ? 'it puts a shell script in place of cargo' : false

test('what cargo says is shown, with what building needs', { skip }, (t) => {
  const { status, stderr } = install(bare(t), pretended(t, 'echo "error: linker not found" >&2; exit 101'))
  assert.equal(status, 1)
  assert.match(stderr, /^error: linker not found\n/)
  assert.match(
    stderr,
    /reconcile-lock: cargo build .* failed \(exit code 101\)\. Building needs Rust 1\.\d+ or newer/,
  )
})

test('what was built and cannot be loaded does not become the binary', { skip }, (t) => {
  const home = bare(t)
  const library = join(home, 'library.so')
  writeFileSync(library, 'garbage')
  const artifact = { reason: 'compiler-artifact', target: { name: 'reconcile_lock' }, filenames: [library] }
  const before = readdirSync(home)
  const { status, stderr } = install(home, pretended(t, `echo '${JSON.stringify(artifact)}'`))
  assert.equal(status, 1)
  assert.match(stderr, /library\.so was built, but this Node\.js cannot load it:\n/)
  assert.deepEqual(readdirSync(home), before)
})

test('a build that makes no library is an error', { skip }, (t) => {
  const { status, stderr } = install(bare(t), pretended(t, 'exit 0'))
  assert.equal(status, 1)
  assert.match(stderr, /cargo has built no library/)
})

test('npm fails when the build fails', { skip }, async (t) => {
  const project = await installed(t, '--omit=optional')
  rmSync(join(project, 'node_modules/reconcile-lock/src'), { recursive: true })
  const { code, stderr } = await npm(
    registry,
    project,
    ['rebuild', manifest.name, '--build-from-source'],
    target,
  )
  assert.notEqual(code, 0)
  assert.match(stderr, /failed \(exit code 101\)/)
})

test('publint finds nothing to say about what is published', async () => {
  const { messages, pkg = {} } = await publint({ pkgDir: release.home, strict: true })
  assert.deepEqual(
    messages.map((message) => formatMessage(message, pkg)),
    [],
  )
})

test('@arethetypeswrong/cli finds that they are right', () => {
  const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js')
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [attw, '--no-emoji', join(release.packed, tarball())],
    {
      encoding: 'utf8',
    },
  )
  assert.equal(status, 0, `${stdout}${stderr}`)
  assert.match(stdout, /No problems found/)
})
