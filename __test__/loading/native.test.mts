// No native binary works here: one error says what failed, why, and what to do.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { test } from 'node:test'
import { directory, mounted } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { fileOf, here, installedBinary, layOut, manifest } from '../support/release.mjs'
import { ofFutureGlibc, ofMusl } from './libraries.mjs'

const onWine: KnownFailure = {
  platform: 'wine',
  why: 'the test starts npm, which is not a Windows program there',
  sometimes: true,
}
const onQemu: KnownFailure = {
  platform: 'qemu',
  why: 'the compiler of the host does not build libraries for the emulated machine',
}
const isGlibc = here.includes('-gnu')
const isMusl = here.endsWith('-musl')
const onlyGlibc = isGlibc ? false : 'the test is about libraries that glibc rejects'

/** For a process that hangs, in milliseconds: under qemu others take 15 times as long beside 64 processes of another test. */
const LIMIT = 120_000

const { bun, deno, node } = process.versions
/** The code of Node.js for a library that the system cannot load; errors of Deno have none. */
const REFUSED = deno ? undefined : 'ERR_DLOPEN_FAILED'
const runtime = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node.js ${node}`

/** The error that a program gets when it loads the package. */
interface LoadFailure {
  name: string
  message: string
  code: string
  path: string
  recoverable: boolean
  cause?: { message: string; code?: string }
}

const ways = {
  require: "require('reconcile-lock')",
  import: "import('reconcile-lock')",
  'require in a worker': `new Promise((resolve, reject) =>
    new (require('node:worker_threads').Worker)("require('reconcile-lock')", { eval: true })
      .once('error', reject).once('exit', resolve))`,
  'import in a worker': `new Promise((resolve, reject) =>
    new (require('node:worker_threads').Worker)("import('reconcile-lock')", { eval: true })
      .once('error', reject).once('exit', resolve))`,
}

/** Loads the package in a new process and returns the error that it throws. */
function failure(
  project: string,
  way: keyof typeof ways = 'require',
  env = {},
  pretended = '',
  uid?: number,
): LoadFailure {
  const print = `({ name, message, code, path, recoverable, cause }) => console.log(JSON.stringify({
    name, message, code, path, recoverable, cause: cause && { message: cause.message, code: cause.code } }))`
  const program = `${pretended};(async () => ${ways[way]})().then(() => console.log('{}'), ${print})`
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['-e', program], {
    cwd: project,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: LIMIT,
    ...(uid !== undefined && { uid }),
  })
  assert.deepEqual([status, signal], [0, null], stderr)
  return JSON.parse(stdout)
}

const REINSTALL = /^ {2}fix: npm ci --include=optional, or remove node_modules and install again, /
const DENIED =
  /^ {2}fix: make \S+\.node readable for this user, on a filesystem that allows execution \(noexec and SELinux /
const BUILD =
  /^ {2}fix: build it with npm run build in a clone of https:\S+, and set NAPI_RS_NATIVE_LIBRARY_PATH to /

/** Asserts the content that all these errors have. */
function assertFailure(
  failed: LoadFailure,
  name: string,
  cause: RegExp,
  remedy = /^ {2}fix: npm install /,
): void {
  assert.deepEqual(
    [failed.code, failed.name, failed.recoverable],
    ['E_LOCK_NATIVE', 'LockError', false],
    failed.message,
  )
  const [first, asked, why, fix, ...more] = failed.message.split('\n')
  assert.ok(first?.endsWith(`, ${runtime}`), first)
  assert.equal(asked, `  package: @reconcile-lock/${name}`)
  assert.match(why ?? '', /^ {2}cause: /)
  assert.match(why ?? '', cause)
  assert.match(fix ?? '', remedy)
  assert.deepEqual(more, [])
}

const marksOf = (way: string): KnownFailure[] => [
  ...(way.endsWith('in a worker')
    ? [{ runtime: 'bun', why: 'an error that ends a worker loses its class and its fields in Bun' } as const]
    : []),
  ...(way === 'require'
    ? []
    : [
        {
          runtime: 'deno',
          why: 'import() with -e, and errors of workers, differ in Deno',
        } as const,
      ]),
]

for (const way of Object.keys(ways) as (keyof typeof ways)[]) {
  test(
    `an omitted platform package is reported: ${way}`,
    knownFailure([onWine, ...marksOf(way)], (t) => {
      const project = directory(t)
      const home = layOut(project)
      const failed = failure(project, way)
      assertFailure(failed, here, /is not installed: optional dependencies were omitted/)
      const libc = isMusl ? ' musl' : isGlibc ? ' glibc( [\\d.]+)?' : ''
      assert.match(
        failed.message,
        new RegExp(` here: ${process.platform} ${process.arch}${libc}, ${runtime}\n`),
      )
      assert.equal(failed.path, join(home, fileOf(here)))
    }),
  )
}

test(
  'the command line prints the error without a stack',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    const home = layOut(project)
    const args = [join(home, 'bin/reconcile-lock.js'), 'status']
    const { status, stdout, stderr } = spawnSync(process.execPath, args, {
      cwd: project,
      encoding: 'utf8',
      timeout: LIMIT,
    })
    assert.deepEqual([status, stdout], [73, ''])
    assert.match(stderr, /^reconcile-lock has no native binary that works here: .*\n( {2}.*\n){3}$/)
  }),
)

/** Moves a directory. */
function move(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true })
  renameSync(from, to)
}

/** Where package managers install the package `home` and the scope of its binary, from the `node_modules` of a project. */
const layouts: Record<string, (modules: string, home: string, scope: string) => void> = {
  hoisted: () => {},
  nested: (_, home, scope) => move(scope, join(home, 'node_modules/@reconcile-lock')),
  'of a dependency, binary hoisted': (modules, home) => {
    move(home, join(modules, 'app/node_modules/reconcile-lock'))
    writeFileSync(join(modules, 'app/index.js'), "module.exports = require('reconcile-lock')")
    move(join(modules, 'app'), home)
  },
  'isolated by pnpm': (modules, home, scope) => {
    const store = join(modules, '.pnpm')
    const [main, binary] = [
      join(store, 'main/node_modules'),
      join(store, 'binary/node_modules/@reconcile-lock'),
    ]
    move(home, join(main, 'reconcile-lock'))
    move(scope, binary)
    symlinkSync(join(main, 'reconcile-lock'), home, 'junction')
    mkdirSync(join(main, '@reconcile-lock'))
    symlinkSync(join(binary, here), join(main, '@reconcile-lock', here), 'junction')
  },
  'in the cache of Deno': (modules, home, scope) => {
    const cache = join(modules, '../cache')
    const [main, binary] = [
      join(cache, 'reconcile-lock', manifest.version),
      join(cache, '@reconcile-lock', here, manifest.version),
    ]
    move(home, main)
    move(join(scope, here), binary)
    symlinkSync(main, home, 'junction')
  },
  'in the cache of Bun': (modules, home, scope) => {
    const cache = join(modules, '../cache')
    const main = join(cache, `reconcile-lock@${manifest.version}@@@1`)
    move(home, main)
    move(join(scope, here), join(cache, '@reconcile-lock', `${here}@${manifest.version}@@@1`))
    symlinkSync(main, home, 'junction')
  },
  'of a workspace': (modules) => {
    move(join(modules, '../node_modules'), join(modules, '../../node_modules'))
  },
  // The root depends on another version of this package. The mode of a directory of Windows does not show its users.
  ...(process.platform !== 'win32' && {
    'of a workspace, binary hoisted': (modules: string, _: string, scope: string) => hoist(modules, scope),
  }),
}

/** Moves the binary to the project that contains the project of `modules`, and returns the directory of that. */
function hoist(modules: string, scope: string): string {
  const parent = join(modules, '../..')
  move(scope, join(parent, 'node_modules/@reconcile-lock'))
  writeFileSync(join(parent, 'package.json'), '{ "workspaces": ["project"] }')
  // Deno requires the one of each member.
  writeFileSync(join(modules, '../package.json'), '{}')
  return parent
}

for (const [what, change] of Object.entries(layouts)) {
  test(
    `the binary is found: ${what}`,
    knownFailure(onWine, (t) => {
      const project = join(directory(t), 'project')
      const modules = join(project, 'node_modules')
      const home = layOut(project, here)
      change(modules, home, join(modules, '@reconcile-lock'))
      assert.deepEqual(failure(project), {})
    }),
  )
}

test(
  '`node_modules` of an unrelated parent directory is not searched',
  knownFailure(onWine, (t) => {
    const parent = directory(t)
    const project = join(parent, 'project')
    layOut(project, here)
    move(join(project, 'node_modules/@reconcile-lock'), join(parent, 'node_modules/@reconcile-lock'))
    assertFailure(failure(project), here, /is not installed/)
  }),
)

test(
  '`node_modules` of a sticky directory is not searched',
  knownFailure(onWine, (t) => {
    const project = join(directory(t), 'project')
    layOut(project, here)
    const parent = hoist(join(project, 'node_modules'), join(project, 'node_modules/@reconcile-lock'))
    chmodSync(parent, 0o1777)
    assertFailure(failure(project), here, /is not installed/)
  }),
)

for (const place of ['package', 'beside']) {
  test(
    `an invalid binary ${place === 'package' ? 'in the platform package' : 'beside the package'} is reported`,
    knownFailure(onWine, (t) => {
      const project = directory(t)
      const home = layOut(project, here)
      const installed = installedBinary(project)
      const path = place === 'package' ? installed : join(home, fileOf(here))
      if (path !== installed) renameSync(installed, path)
      writeFileSync(path, 'garbage '.repeat(512))
      const failed = failure(project)
      const [text = ''] = failed.cause?.message.split('\n') ?? []
      assertFailure(failed, here, /cause: ./, REINSTALL)
      assert.ok(failed.message.includes(`  cause: ${text}\n`), failed.message)
      assert.equal(failed.path, path)
      assert.equal(failed.cause?.code, REFUSED)
    }),
  )
}

for (const [what, made, cause, remedy] of [
  ['a newer glibc', ofFutureGlibc, /GLIBC_9\.\d+/, BUILD],
  ['musl', ofMusl, /libc\.musl-\w+\.so/, REINSTALL],
] as const) {
  test(
    `the loader's message about ${what} is reported`,
    { skip: onlyGlibc },
    knownFailure([onWine, onQemu], (t) => {
      const project = directory(t)
      layOut(project, here)
      copyFileSync(made(t), installedBinary(project))
      const failed = failure(project)
      assertFailure(failed, here, cause, remedy)
      assert.equal(failed.cause?.code, REFUSED)
    }),
  )
}

for (const [what, denied, cause] of [
  ['binary', fileOf(here), /Permission denied$/],
  ['package of the binary', '', /EACCES: permission denied, stat /],
  ['scope of the binary', '..', /EACCES: permission denied, stat /],
] as const)
  test(
    `an unreadable ${what} is reported`,
    { skip: process.getuid?.() !== 0 && 'only root can act as another user' },
    knownFailure(onWine, (t) => {
      const project = directory(t)
      layOut(project, here)
      chmodSync(project, 0o755)
      chmodSync(join(dirname(installedBinary(project)), denied), 0o600)
      const failed = failure(project, 'require', {}, '', 65_534)
      assertFailure(failed, here, cause, DENIED)
    }),
  )

test(
  'a binary on a filesystem without execution is reported',
  { skip: process.platform !== 'linux' && 'the test mounts a filesystem' },
  knownFailure({ platform: 'qemu', why: 'the emulator only reads the code that it runs' }, (t) => {
    const path = mounted(t, 'size=32m,noexec')
    if (path === undefined) return
    layOut(path, here)
    assertFailure(failure(path), here, /failed to map segment|not permitted|Permission denied/, DENIED)
  }),
)

for (const [text, remedy] of [
  // macOS protects directories, and musl reports a filesystem without execution so.
  ['Operation not permitted', DENIED],
  ['failed to map segment from shared object: Cannot allocate memory', REINSTALL],
  // Windows.
  ['Access is denied.', DENIED],
] as const)
  test(
    `the fix for a binary fits the error: ${text}`,
    knownFailure(onWine, (t) => {
      const project = directory(t)
      layOut(project, here)
      const pretended = `
        const fs = require('node:fs')
        const { statSync } = fs
        fs.statSync = (path, ...rest) => {
          if (path.endsWith('.node')) throw new Error(${JSON.stringify(text)})
          return statSync(path, ...rest)
        }`
      assertFailure(failure(project, 'require', {}, pretended), here, /cause: ./, remedy)
    }),
  )

test('a path with a line break stays on its line', {
  skip: process.platform === 'win32' && 'Windows has no such names',
}, (t) => {
  const project = join(directory(t), 'new\nline')
  layOut(project, here)
  const binary = installedBinary(project)
  writeFileSync(binary, 'garbage '.repeat(512))
  const failed = failure(project)
  assertFailure(failed, here, /new\\nline\/.+: ./, REINSTALL)
  assert.equal(failed.path, binary)
  rmSync(binary)
  assertFailure(failure(project), here, /new\\nline\/.+ is missing$/, REINSTALL)
})

/** Makes a process detect musl by the content of its ldd. */
const musl = `
  const fs = require('node:fs')
  const { readFileSync } = fs
  fs.readFileSync = (path, ...rest) => (path === '/usr/bin/ldd' ? 'musl libc' : readFileSync(path, ...rest))`

/** Makes a process detect musl by its report, without ldd. */
const muslByReport = `
  const fs = require('node:fs')
  const { readFileSync } = fs
  fs.readFileSync = (path, ...rest) => readFileSync(path === '/usr/bin/ldd' ? '/nowhere' : path, ...rest)
  process.report.getReport = () => ({ header: {}, sharedObjects: ['/lib/ld-musl-x86_64.so.1'] })`

for (const [how, pretended] of [
  ['ldd', musl],
  ['process.report', muslByReport],
] as const)
  test(
    `musl detected by ${how} needs the package for musl`,
    { skip: onlyGlibc },
    knownFailure(onWine, (t) => {
      const project = directory(t)
      layOut(project, here)
      // Not each processor has a package for musl.
      const onX64 = `${pretended}\nObject.defineProperty(process, 'arch', { value: 'x64' })`
      const failed = failure(project, 'require', {}, onX64)
      assertFailure(failed, 'linux-x64-musl', /is not installed: .* was installed for another platform$/)
      assert.ok(failed.message.includes(`linux x64 musl, ${runtime}`), failed.message)
    }),
  )

for (const [arch, name] of [
  ['arm', 'linux-arm-gnueabihf'],
  ['riscv64', 'linux-riscv64-gnu'],
  ['s390x', 'linux-s390x-gnu'],
] as const)
  test(`Linux on ${arch} needs the package ${name}`, { skip: onlyGlibc }, (t) => {
    const project = directory(t)
    layOut(project)
    const pretended = `Object.defineProperty(process, 'arch', { value: '${arch}' })`
    const failed = failure(project, 'require', {}, pretended)
    assertFailure(failed, name, /is not installed: .* was installed for another platform$/)
  })

const pretend = (platform: string, arch: string) => `
  Object.defineProperty(process, 'platform', { value: '${platform}' })
  Object.defineProperty(process, 'arch', { value: '${arch}' })`

for (const [platform, arch, name] of [
  ['linux', 'ia32', `linux-ia32-${isMusl ? 'musl' : 'gnu'}`],
  ['linux', 'loong64', `linux-loong64-${isMusl ? 'musl' : 'gnu'}`],
  ['win32', 'ia32', 'win32-ia32-msvc'],
] as const) {
  test(
    `the error reports that ${name} has no binary`,
    knownFailure(onWine, (t) => {
      const project = directory(t)
      layOut(project, here)
      const pretended = pretend(platform, arch)
      const failed = failure(project, 'require', {}, pretended)
      assertFailure(failed, name, new RegExp(`no binary is published for ${name}$`), BUILD)
      const NAPI_RS_NATIVE_LIBRARY_PATH = installedBinary(project)
      assert.deepEqual(failure(project, 'require', { NAPI_RS_NATIVE_LIBRARY_PATH }, pretended), {})
    }),
  )
}

for (const [platform, arch] of [
  ['freebsd', 'x64'],
  ['android', 'arm64'],
  ['sunos', 'x64'],
] as const)
  test(
    `the error reports that ${platform} is not supported`,
    knownFailure(onWine, (t) => {
      const project = directory(t)
      layOut(project, here)
      const pretended = pretend(platform, arch)
      const failed = failure(project, 'require', {}, pretended)
      const why = new RegExp(`reconcile-lock does not support ${platform}$`)
      assertFailure(failed, `${platform}-${arch}`, why, /^ {2}fix: use Linux, macOS or Windows; /)
    }),
  )

test(
  'an executable of pkg gets no npm command',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    layOut(project)
    const failed = failure(project, 'require', {}, 'process.pkg = {}')
    const remedy =
      /^ {2}fix: set NAPI_RS_NATIVE_LIBRARY_PATH to the absolute path of \S+\.node; see https:\S+\/bundling\.md$/
    assertFailure(failed, here, /is not installed/, remedy)
  }),
)

test(
  'a platform package without its binary is reported',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    layOut(project, here)
    rmSync(installedBinary(project))
    const failed = failure(project)
    assertFailure(failed, here, /reconcile-lock\S+\.node is missing$/, REINSTALL)
  }),
)

test(
  'an unbuilt clone reports the build command',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    writeFileSync(join(layOut(project), 'Cargo.toml'), '')
    assertFailure(failure(project), here, /\.node was not built$/, /^ {2}fix: npm run build, in this clone$/)
  }),
)

test(
  'a binary of another version is reported',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    const home = layOut(project, here)
    const path = join(home, 'dist/index.js')
    writeFileSync(path, readFileSync(path, 'utf8').replace(`"${manifest.version}"`, '"0.9.9"'))
    const failed = failure(project)
    assertFailure(
      failed,
      here,
      new RegExp(`is of version ${manifest.version}, and reconcile-lock of 0\\.9\\.9$`),
      REINSTALL,
    )
    assert.equal(failed.path, installedBinary(project))
  }),
)

const UNSET =
  /^ {2}fix: unset NAPI_RS_NATIVE_LIBRARY_PATH, or set NAPI_RS_NATIVE_LIBRARY_PATH to the absolute path of \S+\.node$/

test(
  'NAPI_RS_NATIVE_LIBRARY_PATH is reported as the cause',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    layOut(project, here)
    const nowhere = join(project, 'nowhere.node')
    const failed = failure(project, 'require', { NAPI_RS_NATIVE_LIBRARY_PATH: nowhere })
    const isSet = /NAPI_RS_NATIVE_LIBRARY_PATH is set; .*nowhere\.node/
    assertFailure(failed, here, isSet, UNSET)
    assert.equal(failed.path, nowhere)
  }),
)

for (const [what, content] of [
  ['a module with its version', `exports.VERSION = '${manifest.version}'`],
  ['an empty module', ''],
  ['a module without exports', 'module.exports = undefined'],
] as const)
  test(
    `NAPI_RS_NATIVE_LIBRARY_PATH with ${what} is reported`,
    knownFailure(onWine, (t) => {
      const project = directory(t)
      layOut(project, here)
      const path = join(project, 'addon.js')
      writeFileSync(path, content)
      const failed = failure(project, 'require', { NAPI_RS_NATIVE_LIBRARY_PATH: path })
      assertFailure(failed, here, /addon\.js is not an addon of reconcile-lock$/, UNSET)
    }),
  )

test(
  'NAPI_RS_NATIVE_LIBRARY_PATH has to be absolute',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    layOut(project, here)
    const path = relative(project, installedBinary(project))
    for (const named of [path, `./${path}`]) {
      const failed = failure(project, 'require', { NAPI_RS_NATIVE_LIBRARY_PATH: named })
      assertFailure(failed, here, /is set; .+\.node is not an absolute path$/, UNSET)
      assert.equal(failed.path, installedBinary(project))
    }
  }),
)
