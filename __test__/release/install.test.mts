// A release as users install it: by npm from a registry, with only the binary of their machine.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'
import {
  here,
  installedBinary,
  layOut,
  makeRelease,
  manifest,
  platforms,
  tarballOf,
} from '../support/release.mjs'
import { npm, type Registry, serve } from './registry.mjs'

const release = makeRelease()
const tarball = (name = '') => tarballOf(`reconcile-lock${name && `-${name}`}`)
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

/** The platform packages that npm has installed. */
const binaries = (project: string) => {
  const modules = join(project, 'node_modules')
  const [scope, ...others] = readdirSync(modules).filter(
    (name) => name !== 'reconcile-lock' && !name.startsWith('.'),
  )
  assert.deepEqual(others, [])
  return scope === undefined ? [] : readdirSync(join(modules, scope)).map((name) => `${scope}/${name}`)
}

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

test('npm installs only the binary of this machine', async (t) => {
  const project = await installed(t)
  assert.deepEqual(binaries(project), [`@reconcile-lock/${here}`])
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

test('the crate contains only its sources and documents', () => {
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

test('a binary installed for another platform is reported', async (t) => {
  const other = here === 'darwin-arm64' ? ['linux', 'x64', 'glibc'] : ['darwin', 'arm64']
  const [os, cpu, libc] = other
  const args = [`--os=${os}`, `--cpu=${cpu}`, ...(libc ? [`--libc=${libc}`] : [])]
  const project = await installed(t, ...args)
  const name = here === 'darwin-arm64' ? 'linux-x64-gnu' : 'darwin-arm64'
  assert.deepEqual(binaries(project), [`@reconcile-lock/${name}`])
  const { status, stderr } = spawnSync(process.execPath, ['-e', lockOnce], { cwd: project, encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /is not installed: .* or node_modules was installed for another platform/)
})

test('npm installs the musl binary on musl', async (t) => {
  const project = await installed(t, '--os=linux', '--cpu=x64', '--libc=musl')
  assert.deepEqual(binaries(project), ['@reconcile-lock/linux-x64-musl'])
})

test('the error names the npm command that installs the binary', async (t) => {
  const project = await installed(t, '--omit=optional')
  assert.deepEqual(binaries(project), [])
  const { stderr } = spawnSync(process.execPath, ['-e', lockOnce], { cwd: project, encoding: 'utf8' })
  const [, command = ''] = /fix: npm (install --include=optional), /.exec(stderr) ?? []
  const again = await npm(registry, project, command.split(' '))
  assert.equal(again.code, 0, again.stderr)
  node(project, '-e', lockOnce)
})

for (const [what, damage] of [
  ['damaged', (path: string) => writeFileSync(path, 'garbage '.repeat(512))],
  ['removed', (path: string) => rmSync(path)],
] as const)
  test(`the error names the npm command for a ${what} binary`, async (t) => {
    const project = await installed(t)
    damage(installedBinary(project))
    const { stderr } = spawnSync(process.execPath, ['-e', lockOnce], { cwd: project, encoding: 'utf8' })
    const [, command = ''] = /fix: npm (ci --include=optional), /.exec(stderr) ?? []
    const again = await npm(registry, project, command.split(' '))
    assert.equal(again.code, 0, again.stderr)
    node(project, '-e', lockOnce)
  })

test('npm hoists the binary of a workspace to its root', async (t) => {
  const project = directory(t)
  const write = (path: string, content: object) => {
    mkdirSync(join(project, path), { recursive: true })
    writeFileSync(join(project, path, 'package.json'), JSON.stringify(content))
  }
  // Without `workspaces` npm links a dependency in the project in the same way.
  for (const root of [{ workspaces: ['app'] }, { dependencies: { app: 'file:./app' } }]) {
    write('other', { name: manifest.name, version: '0.0.1' })
    write('app', { name: 'app', version: '1.0.0', dependencies: { [manifest.name]: manifest.version } })
    const dependencies = { ...root.dependencies, [manifest.name]: 'file:./other' }
    write('.', { name: 'root', private: true, ...root, dependencies })
    for (const path of ['node_modules', 'app/node_modules', 'package-lock.json'])
      rmSync(join(project, path), { recursive: true, force: true })
    const { code, stderr } = await npm(registry, project, ['install'])
    assert.equal(code, 0, stderr)
    assert.ok(existsSync(installedBinary(project)))
    assert.ok(existsSync(join(project, 'app/node_modules', manifest.name)))
    node(join(project, 'app'), '-e', lockOnce)
  }
})

test('a denied permission to read the binary is reported', (t) => {
  const project = directory(t)
  const home = layOut(project, here)
  const flags = ['--experimental-permission', '--allow-addons', `--allow-fs-read=${home}/*`]
  const { status, stderr } = spawnSync(process.execPath, [...flags, '-e', lockOnce], {
    cwd: project,
    encoding: 'utf8',
  })
  assert.equal(status, 1)
  assert.match(stderr, /code: 'E_LOCK_NATIVE'/)
  assert.match(
    stderr,
    /^ {2}fix: start Node\.js with --allow-fs-read for the directories of reconcile-lock and /m,
  )
})

for (const [flags, fix] of [
  [['--no-addons'], 'start Node.js without --no-addons'],
  [
    ['--experimental-permission', '--allow-fs-read=*'],
    'start Node.js with --allow-addons beside --permission',
  ],
] as const) {
  test(`the error names the fix for ${flags[0]}`, (t) => {
    const project = directory(t)
    layOut(project, here)
    const { status, stderr } = spawnSync(process.execPath, [...flags, '-e', lockOnce], {
      cwd: project,
      encoding: 'utf8',
    })
    assert.equal(status, 1)
    assert.ok(stderr.includes(`  fix: ${fix}\n`), stderr)
  })
}

test('the packages have no scripts', () => {
  const manifests = readdirSync(release.packed).filter((name) => name.endsWith('.tgz'))
  assert.ok(manifests.length > 1)
  for (const name of manifests) {
    const args = ['-xzOf', name, 'package/package.json']
    const { stdout } = spawnSync('tar', args, { cwd: release.packed, encoding: 'utf8' })
    assert.equal(JSON.parse(stdout).scripts, undefined, name)
  }
})

test('each platform package contains the licences of its binary', () => {
  for (const { name } of platforms) {
    const path = join(release.home, 'npm', name)
    assert.match(readFileSync(join(path, 'LICENSE'), 'utf8'), /^MIT License/)
    const text = readFileSync(join(path, 'THIRD-PARTY-LICENSES.txt'), 'utf8')
    for (const crate of ['napi', 'rustix', 'miniserde', 'oneshot'])
      assert.match(text, new RegExp(`^${crate} \\d\\S+: .*(MIT|Apache-2\\.0)`, 'm'))
  }
})

test('publint reports no problems', async () => {
  const { messages, pkg = {} } = await publint({ pkgDir: release.home, strict: true })
  assert.deepEqual(
    messages.map((message) => formatMessage(message, pkg)),
    [],
  )
})

test('@arethetypeswrong/cli reports no problems', () => {
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
