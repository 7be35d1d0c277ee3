// Each test is a row of the third table of docs/bundling.md.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { npm, type Registry, serve } from '../release/registry.mjs'
import { directory, mounted } from '../support/directory.mjs'
import { excludes, inRoot, project } from '../support/installed-program.mjs'
import { root } from '../support/packages.mjs'
import { installedBinary, makeRelease, manifest } from '../support/release.mjs'
import { build, file, node, toolTest } from './programs.mjs'

const execPath = node.execPath ?? ''
const release = makeRelease()
let registry: Registry
before(async () => {
  registry = await serve(release)
})
after(() => registry.close())

/** A project that has installed nothing yet. */
function unbuilt(t: TestContext): string {
  const home = project(t)
  rmSync(join(home, 'node_modules'), { recursive: true })
  return home
}

/** Runs a package manager with the registry of the release. */
async function run(home: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const settings = { cwd: home, env: { ...process.env, ...env }, timeout: 120_000 }
  const { stdout } = await promisify(execFile)(execPath, args, settings)
  return stdout
}

for (const linker of ['isolated', 'hoisted']) {
  toolTest(`pnpm, ${linker}`, async (t) => {
    const home = unbuilt(t)
    const settings = [
      `nodeLinker: ${linker}`,
      `storeDir: ${join(home, 'store')}`,
      `registry: ${registry.url}`,
    ]
    writeFileSync(join(home, 'pnpm-workspace.yaml'), settings.join('\n'))
    await run(home, [file('pnpm/bin/pnpm.mjs'), 'add', manifest.name])
    assert.equal(existsSync(join(home, 'node_modules/@reconcile-lock')), linker === 'hoisted')
    await excludes(t, execPath, ['app.js'], { cwd: home })
  })
}

toolTest("Yarn Plug'n'Play", async (t) => {
  const home = unbuilt(t)
  const settings = {
    nodeLinker: 'pnp',
    npmRegistryServer: registry.url,
    unsafeHttpWhitelist: ['127.0.0.1'],
    globalFolder: join(home, 'yarn'),
    enableTelemetry: false,
    npmMinimalAgeGate: 0,
  }
  writeFileSync(join(home, '.yarnrc.yml'), JSON.stringify(settings))
  writeFileSync(join(home, 'yarn.lock'), '')
  await run(home, [file('@yarnpkg/cli-dist/bin/yarn.js'), 'add', manifest.name])
  assert.ok(!existsSync(join(home, 'node_modules')))
  const loader = ['--require', './.pnp.cjs', '--experimental-loader', './.pnp.loader.mjs', '--no-warnings']
  await excludes(t, execPath, [...loader, 'app.js'], { cwd: home })
})

toolTest('npm ci --omit=optional names the command that installs the binary', async (t) => {
  const home = unbuilt(t)
  const { code, stderr } = await npm(registry, home, ['install', manifest.name])
  assert.equal(code, 0, stderr)
  await excludes(t, execPath, ['app.js'], { cwd: home })
  const again = await npm(registry, home, ['ci', '--omit=optional'])
  assert.equal(again.code, 0, again.stderr)
  const start = () => build(home, ['app.js', join(home, 'lock')])
  assert.throws(start, ({ stderr }) => {
    assert.match(stderr, /fix: npm install --include=optional, /)
    return true
  })
})

toolTest("Electron's asar layout", async (t) => {
  const home = project(t)
  // The patterns of docs/bundling.md, in the notation of this tool.
  const { asarUnpack }: { asarUnpack: string[] } = JSON.parse(
    /"build": (\{[^}]*\})/.exec(readFileSync(join(root, 'docs/bundling.md'), 'utf8'))?.[1] ?? '',
  )
  const out = join(directory(t), 'app.asar')
  const unpacked = ['--unpack', `{${asarUnpack}}`]
  build(home, [file('@electron/asar/bin/asar.mjs'), 'pack', home, out, ...unpacked])
  // Electron reads the program from the archive, and these files from the directory beside it.
  const directoryOfFiles = `${out}.unpacked`
  cpSync(join(home, 'app.js'), join(directoryOfFiles, 'app.js'))
  cpSync(join(home, 'package.json'), join(directoryOfFiles, 'package.json'))
  assert.ok(existsSync(installedBinary(directoryOfFiles)))
  await excludes(t, execPath, [join(directoryOfFiles, 'app.js')])
})

toolTest('two packages copied alone, as for AWS Lambda', async (t) => {
  const home = project(t)
  const layer = join(directory(t), 'opt/nodejs')
  mkdirSync(layer, { recursive: true })
  renameSync(join(home, 'node_modules'), join(layer, 'node_modules'))
  writeFileSync(join(home, 'package.json'), '{}')
  // Lambda finds the packages of a layer by NODE_PATH, which only `require` reads.
  const text = readFileSync(join(home, 'app.js'), 'utf8').replace(
    /^import (.*) from (.*)$/m,
    'const $1 = require($2)',
  )
  writeFileSync(join(home, 'app.js'), text)
  await excludes(t, execPath, ['app.js'], { cwd: home, env: { NODE_PATH: join(layer, 'node_modules') } })
})

toolTest('a read-only root with the lock elsewhere', async (t) => {
  const path = mounted(t, 'size=32m')
  if (path === undefined) return
  cpSync(project(t), path, { recursive: true })
  await promisify(execFile)('mount', ['-o', 'remount,ro', path])
  assert.throws(() => writeFileSync(join(path, 'x'), ''), { code: 'EROFS' })
  await excludes(t, execPath, [join(path, 'app.js')])
})

toolTest('a root of packages and Node.js alone, as in distroless', async (t) => {
  const rootOfImage = directory(t)
  const { stdout } = await promisify(execFile)('ldd', [execPath])
  for (const path of [execPath, ...(stdout.match(/\/\S+/g) ?? [])])
    cpSync(path, join(rootOfImage, path), { dereference: true })
  cpSync(project(t), join(rootOfImage, 'app'), { recursive: true })
  const within = await inRoot(t, rootOfImage)
  if (within) await excludes(t, 'unshare', [...within, execPath, '/app/app.js'], { lock: '/lock' })
})

toolTest('node --permission with and without --allow-addons', async (t) => {
  const home = project(t)
  const flags = ['--permission', '--allow-fs-read=*']
  await excludes(t, execPath, [...flags, '--allow-addons', '--no-warnings', 'app.js'], { cwd: home })
  assert.throws(
    () => build(home, [...flags, 'app.js', join(home, 'lock')]),
    ({ stderr }) => {
      assert.match(stderr, /fix: start Node\.js with --allow-addons beside --permission$/m)
      return true
    },
  )
})
