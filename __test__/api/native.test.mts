// There is no native binary that works here: one error, which says what, why, and what to do.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { fileOf, here, layOut, libcHere, madeUp, manifest, platformOf } from '../support/release.mjs'
import { ofFutureGlibc, ofMusl } from './libraries.mjs'

const onWine: KnownFailure = {
  platform: 'wine',
  why: 'the test starts npm, which is no Windows program there',
  sometimes: true,
}
const onQemu: KnownFailure = {
  platform: 'qemu',
  why: 'the compiler of the machine that emulates makes no libraries for the other',
}
const isGlibc = libcHere()?.libc === 'glibc'
const onlyGlibc = isGlibc ? false : 'it is about libraries that glibc refuses'

const { bun, deno, node } = process.versions
/** What Node.js calls a library that the system refuses; the errors of Deno have no code there. */
const REFUSED = deno ? undefined : 'ERR_DLOPEN_FAILED'
const runtime = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node.js ${node}`

/** What a program sees that loads the package. */
interface Seen {
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

/** Loads the package in a process of its own, and gives the error that it throws. */
function failure(project: string, way: keyof typeof ways = 'require', env = {}, pretended = ''): Seen {
  const told = `({ name, message, code, path, recoverable, cause }) => console.log(JSON.stringify({
    name, message, code, path, recoverable, cause: cause && { message: cause.message, code: cause.code } }))`
  const program = `${pretended};(async () => ${ways[way]})().then(() => console.log('{}'), ${told})`
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['-e', program], {
    cwd: project,
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 30_000,
  })
  assert.deepEqual([status, signal], [0, null], stderr)
  return JSON.parse(stdout)
}

/** What every such error says. */
function proves(seen: Seen, name: string, cause: RegExp, remedy = /^ {2}fix: npm install /): void {
  assert.deepEqual(
    [seen.code, seen.name, seen.recoverable],
    ['E_LOCK_NATIVE', 'LockError', false],
    seen.message,
  )
  const [first, asked, why, fix, ...more] = seen.message.split('\n')
  assert.ok(first?.endsWith(`, ${runtime}`), first)
  assert.equal(asked, `  package: reconcile-lock-${name}`)
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
          why: 'import() in a program of the command line, and errors of workers, differ in Deno',
        } as const,
      ]),
]

for (const way of Object.keys(ways) as (keyof typeof ways)[]) {
  test(
    `the platform's package was omitted: ${way}`,
    knownFailure([onWine, ...marksOf(way)], (t) => {
      const project = directory(t)
      const home = layOut(project)
      const seen = failure(project, way)
      proves(seen, here, /is not installed: optional dependencies were omitted/)
      const libc = libcHere()
      const machine =
        `${process.platform} ${process.arch}${libc ? ` ${libc.libc} ${libc.version ?? ''}` : ''}`.trim()
      assert.ok(seen.message.includes(`${machine}, ${runtime}`), seen.message)
      assert.equal(seen.path, join(home, fileOf(here)))
      assert.equal(seen.cause?.code, 'MODULE_NOT_FOUND')
    }),
  )
}

test(
  'the command line says it in one message, without a stack',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    const home = layOut(project)
    const args = [join(home, 'bin/reconcile-lock.js'), 'status']
    const { status, stdout, stderr } = spawnSync(process.execPath, args, {
      cwd: project,
      encoding: 'utf8',
      timeout: 30_000,
    })
    assert.deepEqual([status, stdout], [73, ''])
    assert.match(stderr, /^reconcile-lock has no native binary that works here: .*\n( {2}.*\n){3}$/)
  }),
)

test(
  'the layout that the other tests spoil does load',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    layOut(project, here)
    assert.deepEqual(failure(project), {})
  }),
)

/** Spoils the binary in its package, and beside the loader, where a build from source puts it. */
function spoils(
  what: string,
  spoil: (t: TestContext, path: string) => void,
  cause: RegExp,
  code?: string,
  marks: KnownFailure[] = [],
): void {
  for (const place of ['package', 'beside']) {
    test(
      `${what}, ${place === 'package' ? "in the platform's package" : 'beside the loader'}`,
      knownFailure([onWine, ...marks], (t) => {
        const project = directory(t)
        const home = layOut(project, here)
        const installed = join(project, 'node_modules', `reconcile-lock-${here}`, fileOf(here))
        const path = place === 'package' ? installed : join(home, fileOf(here))
        if (path !== installed) renameSync(installed, path)
        spoil(t, path)
        const seen = failure(project)
        proves(seen, here, cause)
        assert.equal(seen.path, path)
        assert.equal(seen.cause?.code, code)
      }),
    )
  }
}

spoils(
  'the binary is garbage',
  (_, path) => writeFileSync(path, 'garbage '.repeat(512)),
  /is no native library \(4096 bytes\)/,
  REFUSED,
)
spoils(
  'the binary is empty',
  (_, path) => writeFileSync(path, ''),
  /is no native library \(0 bytes\)/,
  REFUSED,
)
spoils(
  'the binary is of another system',
  (_, path) =>
    writeFileSync(
      path,
      madeUp(platformOf(process.platform === 'darwin' ? 'x86_64-pc-windows-msvc' : 'aarch64-apple-darwin')),
    ),
  /was built for another machine: (darwin arm64|win32 x64)/,
  REFUSED,
)
if (process.platform === 'linux') {
  spoils(
    'the binary is of another machine',
    (_, path) => {
      const bytes = readFileSync(path)
      bytes.writeUInt16LE(process.arch === 'arm64' ? 62 : 183, 0x12)
      writeFileSync(path, bytes)
    },
    /was built for another machine: Linux (arm64|x64)/,
    REFUSED,
    [{ platform: 'musl', why: 'musl looks at no machine in a header' }],
  )
  for (const part of [0.01, 0.5, 0.999])
    spoils(
      `the binary ends after ${part * 100} % of its bytes`,
      (_, path) => {
        const bytes = readFileSync(path)
        writeFileSync(path, bytes.subarray(0, Math.floor(bytes.length * part)))
      },
      /was cut off: its end is missing/,
    )
}

for (const [what, made, cause] of [
  ['a glibc that is too old', ofFutureGlibc, /needs glibc 9\.10, and this machine has 2\.\d+$/],
  [
    'musl for glibc, as Alpine links it',
    ofMusl,
    /was built for musl, and this process runs with glibc 2\.\d+: /,
  ],
  [
    'musl for glibc, as zig links it',
    (t: TestContext) => ofMusl(t, 'libc.so'),
    /was built for musl, and this process runs with glibc 2\.\d+: /,
  ],
] as const) {
  test(
    `${what} names both`,
    { skip: onlyGlibc },
    knownFailure([onWine, onQemu], (t) => {
      const project = directory(t)
      layOut(project, here)
      copyFileSync(made(t), join(project, 'node_modules', `reconcile-lock-${here}`, fileOf(here)))
      const seen = failure(project)
      proves(seen, here, cause)
      assert.equal(seen.cause?.code, REFUSED)
    }),
  )
}

/** A process that believes to run with musl, as napi's loader, Node.js and Deno tell. */
const musl = `
  const fs = require('node:fs')
  const { readFileSync } = fs
  fs.readFileSync = (path, ...rest) => (path === '/usr/bin/ldd' ? 'musl libc' : readFileSync(path, ...rest))
  process.report.getReport = () => ({ header: {}, sharedObjects: ['/lib/ld-musl-x86_64.so.1'] })
  if (globalThis.Deno) Object.defineProperty(Deno, 'build', { value: { ...Deno.build, env: 'musl' } })`

test(
  'glibc for musl names both',
  { skip: onlyGlibc },
  knownFailure([onWine, onQemu], (t) => {
    const project = directory(t)
    const name = here.replace('gnu', 'musl')
    layOut(project, name)
    copyFileSync(ofFutureGlibc(t), join(project, 'node_modules', `reconcile-lock-${name}`, fileOf(name)))
    const seen = failure(project, 'require', {}, musl)
    proves(seen, name, /was built for glibc, and this process runs with musl: /)
    assert.equal(seen.message.includes(`linux ${process.arch} musl, ${runtime}`), true, seen.message)
  }),
)

test(
  'node_modules of a machine with the other libc',
  { skip: onlyGlibc },
  knownFailure(onWine, (t) => {
    const project = directory(t)
    layOut(project, here)
    const seen = failure(project, 'require', {}, musl)
    const name = here.replace('gnu', 'musl')
    proves(seen, name, new RegExp(`only that of ${here}: node_modules was installed for another platform`))
  }),
)

test(
  'node_modules of a machine with another system',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    const other = here === 'darwin-arm64' ? 'linux-x64-gnu' : 'darwin-arm64'
    layOut(project, other)
    proves(
      failure(project),
      here,
      new RegExp(`only that of ${other}: node_modules was installed for another platform`),
    )
  }),
)

for (const [platform, arch, name] of [
  ['freebsd', 'x64', 'freebsd-x64'],
  ['linux', 'ia32', `linux-ia32-${libcHere()?.libc === 'musl' ? 'musl' : 'gnu'}`],
  ['linux', 'arm', `linux-arm-${libcHere()?.libc === 'musl' ? 'musl' : 'gnu'}eabihf`],
  ['win32', 'ia32', 'win32-ia32-msvc'],
  ['sunos', 'x64', 'sunos-x64'],
] as const) {
  test(
    `no binary is published for ${name}`,
    knownFailure(onWine, (t) => {
      const project = directory(t)
      layOut(project, here)
      const pretended = `
      Object.defineProperty(process, 'platform', { value: '${platform}' })
      Object.defineProperty(process, 'arch', { value: '${arch}' })`
      const seen = failure(project, 'require', {}, pretended)
      proves(
        seen,
        name,
        new RegExp(`no binary is published for ${name}; only for linux-x64-gnu, .*win32-arm64-msvc`),
        /^ {2}fix: build it with npm run build in a clone of https:/,
      )
    }),
  )
}

test(
  'the package is there and its binary is not',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    layOut(project, here)
    rmSync(join(project, 'node_modules', `reconcile-lock-${here}`, fileOf(here)))
    const seen = failure(project)
    proves(seen, here, new RegExp(`reconcile-lock-${here} is installed, but its file is missing`))
    assert.equal(seen.cause?.code, 'MODULE_NOT_FOUND')
  }),
)

test(
  'a clone that has not been built names the command that builds it',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    const home = layOut(project)
    rmSync(join(home, 'binding.js'))
    proves(failure(project), here, /binding\.js is missing$/)
    writeFileSync(join(home, 'Cargo.toml'), '')
    proves(failure(project), here, /binding\.js is missing$/, /^ {2}fix: npm run build, in this clone$/)
  }),
)

test(
  'musl is named although no loader has looked for a binary',
  { skip: onlyGlibc },
  knownFailure(onWine, (t) => {
    const project = directory(t)
    rmSync(join(layOut(project), 'binding.js'))
    proves(failure(project, 'require', {}, musl), here.replace('gnu', 'musl'), /binding\.js is missing/)
  }),
)

test(
  'the binary is of another version than the package',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    const home = layOut(project, here)
    const path = join(home, 'package.json')
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), version: '0.9.9' }))
    const seen = failure(project)
    proves(seen, here, new RegExp(`is of version ${manifest.version}, and reconcile-lock of 0\\.9\\.9$`))
    assert.equal(seen.path, join(project, 'node_modules', `reconcile-lock-${here}`, fileOf(here)))
  }),
)

test(
  'an environment that asks for another binary is named',
  knownFailure(onWine, (t) => {
    const project = directory(t)
    layOut(project, here)
    const garbage = join(project, 'garbage.node')
    writeFileSync(garbage, 'garbage')
    const path = failure(project, 'require', { NAPI_RS_NATIVE_LIBRARY_PATH: garbage })
    const isSet = /NAPI_RS_NATIVE_LIBRARY_PATH is set; .*garbage\.node is no native library/
    proves(path, here, isSet, /^ {2}fix: unset NAPI_RS_NATIVE_LIBRARY_PATH$/)
    const wasi = failure(project, 'require', { NAPI_RS_FORCE_WASI: 'error' })
    const isForced = /NAPI_RS_FORCE_WASI .* is set, and there is no WebAssembly build/
    proves(wasi, here, isForced, /^ {2}fix: unset NAPI_RS_FORCE_WASI and NAPI_RS_WASI_FLAVOR$/)
  }),
)
