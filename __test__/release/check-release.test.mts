// tools/check-release.mjs finds each of these faults of a release.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { appendFileSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'
import { fileOf, here, madeUp, makeRelease, platforms } from '../support/release.mjs'

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
  for (const platform of platforms) assert.match(said, new RegExp(`^${platform.package} \\d+ bytes`, 'm'))
})

test('check-release prints its usage without a directory', () => {
  const { status, stderr } = spawnSync(process.execPath, [join(root, 'tools/check-release.mjs')], {
    encoding: 'utf8',
  })
  assert.equal(status, 64)
  assert.match(stderr, /^usage: /)
})

test('a release without a published platform package is refused', (t) => {
  const pretended = "Object.defineProperty(process, 'arch', { value: 'ppc64' })"
  const args = ['--import', `data:text/javascript,${encodeURIComponent(pretended)}`]
  const tool = [join(root, 'tools/release.mjs'), '--here', '--out', directory(t)]
  const { status, stderr } = spawnSync(process.execPath, [...args, ...tool], { encoding: 'utf8' })
  assert.equal(status, 1)
  assert.match(stderr, /^No package is published for this machine/)
})

const musl = 'linux-arm64-musl'
const windows = 'win32-arm64-msvc'
const apple = 'darwin-x64'
const s390x = 'linux-s390x-gnu'
const arm = 'linux-arm-gnueabihf'

const packageOf = (home: string, name: string) => join(home, 'npm', name)
const binary = (home: string, name: string) => join(packageOf(home, name), fileOf(name))
const manifestOf = (home: string, name: string) => join(packageOf(home, name), 'package.json')
const binaryFor = (name: string) =>
  madeUp(platforms.find((platform) => platform.name === name) ?? assert.fail())

type Fault = [spoil: (home: string) => void, said: RegExp]

const faults: Record<string, Fault> = {
  'a binary is missing': [(home) => rmSync(binary(home, musl)), /linux-arm64-musl\.node is missing/],
  'a package is missing': [
    (home) => rmSync(packageOf(home, apple), { recursive: true }),
    /no such file .*darwin-x64.package\.json/,
  ],
  'a binary is empty': [
    (home) => writeFileSync(binary(home, windows), ''),
    /win32-arm64-msvc\.node is not a library/,
  ],
  'a binary is garbage': [
    (home) => writeFileSync(binary(home, windows), 'garbage'.repeat(100)),
    /win32-arm64-msvc\.node is not a library/,
  ],
  'a Linux binary is for another processor': [
    (home) => writeFileSync(binary(home, musl), binaryFor('linux-x64-musl')),
    /linux-arm64-musl\.node is not a library for linux arm64/,
  ],
  'a big-endian binary is for another processor': [
    (home) => writeFileSync(binary(home, s390x), binaryFor(musl)),
    /linux-s390x-gnu\.node is not a library for linux s390x/,
  ],
  'a 32-bit binary is for another processor': [
    (home) => writeFileSync(binary(home, arm), binaryFor(musl)),
    /linux-arm-gnueabihf\.node is not a library for linux arm$/m,
  ],
  'a macOS binary is for another processor': [
    (home) => writeFileSync(binary(home, apple), binaryFor('darwin-arm64')),
    /darwin-x64\.node is not a library for darwin x64/,
  ],
  'a Windows binary is for another processor': [
    (home) => writeFileSync(binary(home, windows), binaryFor('win32-x64-msvc')),
    /win32-arm64-msvc\.node is not a library for win32 arm64/,
  ],
  'a binary is for another system': [
    (home) => writeFileSync(binary(home, windows), binaryFor(musl)),
    /win32-arm64-msvc\.node is not a library for win32 arm64/,
  ],
  'a binary needs the other libc': [
    (home) => writeFileSync(binary(home, musl), binaryFor('linux-arm64-gnu')),
    /linux-arm64-musl\.node needs glibc/,
  ],
  'a binary does not need its libc': [
    (home) => writeFileSync(binary(home, 'linux-arm64-gnu'), binaryFor(musl)),
    /linux-arm64-gnu\.node does not need glibc/,
  ],
  'a binary contains a builder path': [
    (home) =>
      appendFileSync(binary(home, windows), 'C:\\Users\\runner\\.cargo\\registry\\src\\x\\napi\\lib.rs'),
    /win32-arm64-msvc\.node contains C:\\Users\\runner\\.*, a path of its builder/,
  ],
  'a package declares the wrong processor': [
    (home) => edit(manifestOf(home, apple), (content) => Object.assign(content, { cpu: ['arm64'] })),
    /darwin-x64\.node is not a library for darwin arm64/,
  ],
  'the main package has another version': [
    (home) => edit(join(home, 'package.json'), (content) => Object.assign(content, { version: '0.0.9' })),
    /the main package has version 0\.0\.9, and Cargo\.toml has \d/,
  ],
  'the main package contains a binary': [
    (home) => {
      writeFileSync(join(home, fileOf(here)), 'x')
      edit(join(home, 'package.json'), (content) => (content.files as string[]).push('*.node'))
    },
    /^reconcile-lock holds reconcile-lock\..*\.node/m,
  ],
  'the main package lacks its compiled files': [
    (home) => rmSync(join(home, 'dist'), { recursive: true }),
    /^reconcile-lock lacks dist\/postgres\.js/m,
  ],
  'the main package contains an unlisted file': [
    (home) => writeFileSync(join(home, 'bin/more.js'), ''),
    /^reconcile-lock holds bin\/more\.js/m,
  ],
  'a platform package contains an unlisted file': [
    (home) => {
      writeFileSync(join(packageOf(home, apple), 'install.js'), '')
      edit(manifestOf(home, apple), (content) => (content.files as string[]).push('install.js'))
    },
    /@reconcile-lock\/darwin-x64 holds install\.js/,
  ],
  'a platform package lacks its SBOM': [
    (home) => rmSync(join(packageOf(home, apple), 'sbom.cdx.json')),
    /@reconcile-lock\/darwin-x64 lacks sbom\.cdx\.json/,
  ],
  'README.md links out of the package': [
    (home) => writeFileSync(join(home, 'README.md'), '[errors](docs/errors.md#codes)'),
    /README\.md names docs\/errors\.md, which the package does not contain/,
  ],
  'the types name a repository page': [
    (home) => writeFileSync(join(home, 'index.d.ts'), '/** See `docs/postgres.md`. */'),
    /index\.d\.ts names .*docs\/postgres\.md/,
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
