// The packages that tools/publish.mjs publishes, and the faults that stop it.
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { appendFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'
import { fileOf, makeRelease, manifest, platforms, tarballOf } from '../support/release.mjs'
import { type End, type Registry, serve } from './registry.mjs'

const release = makeRelease()
/** Two suffice, as npm takes seconds for each package. */
const published = platforms.slice(0, 2)
const wanted = [manifest.name, ...published.map((platform) => platform.package)].map((name) =>
  tarballOf(name),
)
const binaries = published.map(({ name }) => join(release.home, 'npm', name, fileOf(name)))
const tarballs = (packed: string) =>
  readdirSync(packed).flatMap((name) => (wanted.includes(name) ? [join(packed, name)] : []))

/** Runs a tool of this project. */
function run(tool: string, args: string[], env: NodeJS.ProcessEnv = {}, cwd = root): Promise<End> {
  const settings = { encoding: 'utf8', env: { ...process.env, ...env }, cwd } as const
  return new Promise((resolve) => {
    execFile(process.execPath, [join(root, 'tools', tool), ...args], settings, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
    )
  })
}

const hashes = async (files: string[]) => (await run('hashes.mjs', files)).stdout.trim()
const built = await hashes([...tarballs(release.packed), ...binaries])

/** A copy of the tarballs, and an empty registry. */
async function prepared(t: TestContext): Promise<{ packed: string; registry: Registry; home: string }> {
  const home = directory(t)
  const packed = join(home, 'packed')
  for (const path of tarballs(release.packed)) cpSync(path, path.replace(release.packed, packed))
  const registry = await serve(release, true)
  t.after(() => registry.close())
  writeFileSync(join(home, 'npmrc'), `${registry.url.replace('http:', '')}/:_authToken=made-up\n`)
  return { packed, registry, home }
}

const publish = (
  { packed, registry, home }: { packed: string; registry: Registry; home: string },
  expected = built,
) =>
  run(
    'publish.mjs',
    // As the workflow names it.
    [basename(packed)],
    {
      HASHES: expected,
      NPM_CONFIG_REGISTRY: registry.url,
      NPM_CONFIG_USERCONFIG: join(home, 'npmrc'),
      NPM_CONFIG_FETCH_RETRIES: '0',
      NPM_CONFIG_CACHE: join(home, 'cache'),
    },
    dirname(packed),
  )

test('publish publishes the platforms first and repeats nothing', async (t) => {
  const setting = await prepared(t)
  const first = await publish(setting)
  assert.equal(first.code, 0, first.stderr)
  const names = setting.registry.published()
  assert.equal(names.pop(), manifest.name)
  assert.deepEqual(names.sort(), published.map((platform) => platform.package).sort())
  const again = await publish(setting)
  assert.equal(again.code, 0, again.stderr)
  assert.deepEqual(setting.registry.published(), [])
})

test('publish fails if a version is published with other bytes', async (t) => {
  const setting = await prepared(t)
  const [{ name, package: id } = assert.fail()] = published
  const theirs = { ...setting, packed: join(setting.home, 'theirs') }
  const path = join(setting.home, name)
  cpSync(join(release.home, 'npm', name), path, { recursive: true })
  appendFileSync(join(path, 'README.md'), 'by another owner')
  mkdirSync(theirs.packed)
  execFileSync('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', theirs.packed, path])
  const first = await publish(
    theirs,
    await hashes([join(theirs.packed, tarballOf(id)), ...binaries.slice(0, 1)]),
  )
  assert.equal(first.code, 0, first.stderr)
  assert.deepEqual(setting.registry.published(), [id])
  const { code, stderr } = await publish(setting)
  assert.equal(code, 1)
  assert.ok(stderr.includes(`${id}@${manifest.version} is published with other bytes: sha512-`), stderr)
  assert.deepEqual(setting.registry.published(), [])
})

test('publish fails if the registry does not answer', async (t) => {
  const setting = await prepared(t)
  const { code } = await publish({ ...setting, registry: { ...setting.registry, url: 'http://127.0.0.1:1' } })
  assert.equal(code, 1)
  assert.deepEqual(setting.registry.published(), [])
})

const changes: Record<string, [spoil: (packed: string) => Promise<string> | string, said: RegExp]> = {
  'a package differs from its hash': [
    (packed) => {
      appendFileSync(join(packed, tarballOf(manifest.name)), 'x')
      return built
    },
    /not built by this workflow: reconcile-lock-\d/,
  ],
  'a package is missing': [
    (packed) => {
      rmSync(join(packed, tarballOf(manifest.name)))
      return built
    },
    /missing: reconcile-lock-\d/,
  ],
  'a binary differs from its hash': [
    (packed) => hashes([...tarballs(packed), ...binaries.slice(1)]),
    /not built by this workflow: reconcile-lock\..*\.node/,
  ],
  'there are no hashes': [() => '', /not built by this workflow/],
}
for (const [what, [spoil, said]] of Object.entries(changes)) {
  test(`publish publishes nothing if ${what}`, async (t) => {
    const setting = await prepared(t)
    const { code, stderr } = await publish(setting, await spoil(setting.packed))
    assert.equal(code, 1)
    assert.match(stderr, said)
    assert.deepEqual(setting.registry.published(), [])
  })
}

test('hashes --check compares files with the output of a job', async (t) => {
  const [file = ''] = binaries
  const path = join(directory(t), 'x.node')
  cpSync(file, path)
  const HASHES = JSON.stringify({ linux: await hashes([path]) })
  assert.equal((await run('hashes.mjs', ['--check', path], { HASHES })).code, 0)
  assert.equal((await run('hashes.mjs', ['--check'], { HASHES })).code, 1)
  appendFileSync(path, 'x')
  assert.equal((await run('hashes.mjs', ['--check', path], { HASHES })).code, 1)
})

const version = `## [${manifest.version}] - 2026-11-28\n`
for (const [what, tag, changelog, said] of [
  ['the changelog gives the version a date', 'v', version, /can be released/],
  ['the changelog calls changes unreleased', 'v', `## [Unreleased]\n${version}`, /unreleased changes/],
  [
    'the changelog has no date',
    'v',
    `## [${manifest.version}]\n`,
    /the first heading of CHANGELOG\.md is not/,
  ],
  [
    'the changelog names no published version',
    'v',
    `No version has been published.\n${version}`,
    /CHANGELOG\.md says that no version is published/,
  ],
  ['the changelog lacks the version', 'v', '## [0.0.1] - 2026-11-28\n', /the first heading/],
  ['the tag has another version', 'v9', version, /the tag is v9/],
] as const) {
  test(`check.mjs release: ${what}`, async (t) => {
    const home = directory(t)
    writeFileSync(join(home, 'CHANGELOG.md'), changelog)
    writeFileSync(join(home, 'README.md'), '# reconcile-lock\n')
    cpSync(join(root, 'package.json'), join(home, 'package.json'))
    const { code, stdout, stderr } = await run('check.mjs', ['release', `${tag}${manifest.version}`, home])
    assert.equal(code, said.source.includes('can be') ? 0 : 1)
    assert.match(`${stdout}${stderr}`, said)
  })
}

test('the bill of materials lists the crates of the licences', () => {
  for (const { name, package: id } of platforms) {
    const path = join(release.home, 'npm', name)
    const { metadata, components } = JSON.parse(readFileSync(join(path, 'sbom.cdx.json'), 'utf8'))
    assert.equal(metadata.component.purl, `pkg:npm/${id.replace('@', '%40')}@${manifest.version}`)
    const text = readFileSync(join(path, 'THIRD-PARTY-LICENSES.txt'), 'utf8')
    const named = [...text.matchAll(/^(\S+) (\d\S*): /gm)].map(([, crate, of]) => `pkg:cargo/${crate}@${of}`)
    assert.ok(named.length > 10)
    assert.deepEqual(components.map(({ purl }: { purl: string }) => purl).sort(), named.sort())
  }
})
