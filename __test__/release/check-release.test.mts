// tools/check-release.mjs finds each of these faults of a release.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { appendFileSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'
import {
  fileOf,
  here,
  madeUp,
  makeRelease,
  manifest,
  type Platform,
  platformOf,
} from '../support/release.mjs'

const release = makeRelease()

function check(home: string): { status: number | null; said: string } {
  const args = [join(root, 'tools/check-release.mjs'), home]
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  return { status, said: `${stdout}${stderr}` }
}

function edit(path: string, change: (content: Record<string, unknown>) => void): void {
  const content = JSON.parse(readFileSync(path, 'utf8'))
  change(content)
  writeFileSync(path, JSON.stringify(content))
}

test('a complete release passes and its sizes are printed', () => {
  const { status, said } = check(release.home)
  assert.equal(status, 0, said)
  assert.match(said, /the release is complete/)
  assert.match(said, /^reconcile-lock \d+ bytes packed/m)
  for (const triple of manifest.napi.targets)
    assert.match(said, new RegExp(`^${platformOf(triple).package} \\d+ bytes`, 'm'))
})

test('check-release prints its usage without a directory', () => {
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'tools/check-release.mjs')], {
    encoding: 'utf8',
  })
  assert.equal(status, 64)
  assert.match(stderr, /^usage: /)
})

const target = (triple: string): Platform => platformOf(triple)
const musl = 'aarch64-unknown-linux-musl'
const windows = 'aarch64-pc-windows-msvc'
const apple = 'x86_64-apple-darwin'
const s390x = 's390x-unknown-linux-gnu'
const arm = 'armv7-unknown-linux-gnueabihf'

const binary = (home: string, triple: string) =>
  join(home, 'npm', target(triple).name, fileOf(target(triple).name))
const manifestOf = (home: string, triple: string) => join(home, 'npm', target(triple).name, 'package.json')

type Fault = [spoil: (home: string) => void, said: RegExp]

/** `write`: writes the offset of the table of sections, which is at the end of a whole binary. */
function truncated(
  what: string,
  triple: string,
  write: (bytes: Buffer, end: number) => void,
): Record<string, Fault> {
  const spoil = (home: string): void => {
    const bytes = madeUp(target(triple))
    write(bytes, bytes.length + 1)
    writeFileSync(binary(home, triple), bytes)
  }
  return { [what]: [spoil, new RegExp(`${triple}: .* was cut off`)] }
}

const faults: Record<string, Fault> = {
  'a binary is missing': [
    (home) => rmSync(binary(home, musl)),
    /aarch64-unknown-linux-musl: .*\.node is missing/,
  ],
  'a package is missing': [
    (home) => rmSync(join(home, 'npm', target(apple).name), { recursive: true }),
    /x86_64-apple-darwin: .*package\.json is missing/,
  ],
  'a binary is empty': [(home) => writeFileSync(binary(home, apple), ''), /x86_64-apple-darwin: .* is empty/],
  'a binary is garbage': [
    (home) => writeFileSync(binary(home, windows), 'garbage'.repeat(100)),
    /aarch64-pc-windows-msvc: .* is no native library/,
  ],
  'a Linux binary is for another processor': [
    (home) => writeFileSync(binary(home, musl), madeUp(target('x86_64-unknown-linux-musl'))),
    /aarch64-unknown-linux-musl: .* is for elf x64/,
  ],
  'a big-endian binary is for another processor': [
    (home) => writeFileSync(binary(home, s390x), madeUp(target(musl))),
    /s390x-unknown-linux-gnu: .* is for elf arm64/,
  ],
  'a 32-bit binary is for another processor': [
    (home) => writeFileSync(binary(home, arm), madeUp(target(musl))),
    /armv7-unknown-linux-gnueabihf: .* is for elf arm64/,
  ],
  'a macOS binary is for another processor': [
    (home) => writeFileSync(binary(home, apple), madeUp(target('aarch64-apple-darwin'))),
    /x86_64-apple-darwin: .* is for darwin arm64/,
  ],
  'a Windows binary is for another processor': [
    (home) => writeFileSync(binary(home, windows), madeUp(target('x86_64-pc-windows-msvc'))),
    /aarch64-pc-windows-msvc: .* is for win32 x64/,
  ],
  'a binary is for another system': [
    (home) => writeFileSync(binary(home, windows), madeUp(target(musl))),
    /aarch64-pc-windows-msvc: .* is for elf arm64/,
  ],
  'a binary needs the other libc': [
    (home) => writeFileSync(binary(home, musl), madeUp(target('aarch64-unknown-linux-gnu'))),
    /aarch64-unknown-linux-musl: .* needs glibc 2\.17/,
  ],
  ...truncated('a binary is truncated', musl, (bytes, end) => bytes.writeBigUInt64LE(BigInt(end), 0x28)),
  ...truncated('a big-endian binary is truncated', s390x, (bytes, end) =>
    bytes.writeBigUInt64BE(BigInt(end), 0x28),
  ),
  ...truncated('a 32-bit binary is truncated', arm, (bytes, end) => bytes.writeUInt32LE(end, 0x20)),
  'a binary contains a path of its builder': [
    (home) =>
      appendFileSync(binary(home, windows), 'C:\\Users\\runner\\.cargo\\registry\\src\\x\\napi\\lib.rs'),
    /aarch64-pc-windows-msvc: .* contains C:\\Users\\runner\\.*, a path of its builder/,
  ],
  'a package has another version': [
    (home) => edit(manifestOf(home, apple), (content) => Object.assign(content, { version: '0.0.9' })),
    /x86_64-apple-darwin: version is "0\.0\.9"/,
  ],
  'a package declares the wrong processor': [
    (home) => edit(manifestOf(home, apple), (content) => Object.assign(content, { cpu: ['arm64'] })),
    /x86_64-apple-darwin: cpu is \["arm64"\]/,
  ],
  'a package declares the wrong system': [
    (home) => edit(manifestOf(home, windows), (content) => Object.assign(content, { os: ['linux'] })),
    /aarch64-pc-windows-msvc: os is \["linux"\]/,
  ],
  'a package does not declare its libc': [
    (home) => edit(manifestOf(home, musl), (content) => delete content.libc),
    /aarch64-unknown-linux-musl: libc is undefined/,
  ],
  'a package has another main file': [
    (home) => edit(manifestOf(home, apple), (content) => Object.assign(content, { main: 'index.js' })),
    /x86_64-apple-darwin: main is "index\.js"/,
  ],
  'the main package has another version': [
    (home) => edit(join(home, 'package.json'), (content) => Object.assign(content, { version: '0.0.9' })),
    /the main package is of version 0\.0\.9/,
  ],
  'an optional dependency is missing': [
    (home) =>
      edit(join(home, 'package.json'), (content) => {
        delete (content.optionalDependencies as Record<string, string>)['@reconcile-lock/darwin-x64']
      }),
    /optionalDependencies: @reconcile-lock\/darwin-x64 is undefined/,
  ],
  'the main package depends on a range': [
    (home) =>
      edit(join(home, 'package.json'), (content) => {
        Object.assign(content.optionalDependencies as object, { '@reconcile-lock/darwin-x64': '^0.1.0' })
      }),
    /optionalDependencies: @reconcile-lock\/darwin-x64 is \^0\.1\.0/,
  ],
  'the main package declares fewer targets': [
    (home) => {
      edit(join(home, 'package.json'), (content) => Object.assign(content.napi as object, { targets: [] }))
      rmSync(join(home, 'npm'), { recursive: true })
    },
    /x86_64-apple-darwin: .*package\.json is missing/,
  ],
  'the main package contains a binary': [
    (home) => {
      writeFileSync(join(home, fileOf(here)), 'x')
      edit(join(home, 'package.json'), (content) => (content.files as string[]).push('*.node'))
    },
    /the main package holds reconcile-lock\..*\.node/,
  ],
  'the main package lacks its compiled files': [
    (home) => rmSync(join(home, 'dist'), { recursive: true }),
    /the main package lacks dist\/postgres\.js/,
  ],
  'the main package contains an unlisted file': [
    (home) => writeFileSync(join(home, 'bin/more.js'), ''),
    /the main package holds bin\/more\.js/,
  ],
  'a platform package contains an unlisted file': [
    (home) => {
      writeFileSync(join(home, 'npm', target(apple).name, 'install.js'), '')
      edit(manifestOf(home, apple), (content) => (content.files as string[]).push('install.js'))
    },
    /x86_64-apple-darwin holds install\.js/,
  ],
  'a platform package lacks its bill of materials': [
    (home) => rmSync(join(home, 'npm', target(apple).name, 'sbom.cdx.json')),
    /x86_64-apple-darwin lacks sbom\.cdx\.json/,
  ],
  'README.md has a relative link out of the package': [
    (home) => writeFileSync(join(home, 'README.md'), '[errors](docs/errors.md#codes)'),
    /README\.md names docs\/errors\.md, which the package does not contain/,
  ],
  'the types name a page of the repository': [
    (home) => writeFileSync(join(home, 'index.d.ts'), '/** See `docs/postgres.md`. */'),
    /index\.d\.ts names .*docs\/postgres\.md/,
  ],
  'the main package has an install script': [
    (home) =>
      edit(join(home, 'package.json'), (content) =>
        Object.assign(content, { scripts: { install: 'node x' } }),
      ),
    /the main package has scripts: install/,
  ],
}

for (const [what, [spoil, expected]] of Object.entries(faults)) {
  test(`check-release fails when ${what}`, (t) => {
    const home = join(directory(t), 'package')
    cpSync(release.home, home, { recursive: true })
    spoil(home)
    const { status, said } = check(home)
    assert.equal(status, 1, said)
    assert.match(said, expected)
  })
}
