// `node tools/publish.mjs DIRECTORY`: publishes the tarballs of a release, the platforms first, because the main package
// depends on them. It publishes nothing if a file differs from its hash in the environment, `HASHES`, or if the
// registry has other bytes under one of the versions. A run that failed half-way can be repeated.
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { differences } from './hashes.mjs'

// Absolute, because npm takes `packages/a.tgz` for a repository on GitHub.
const directory = resolve(process.argv[2] ?? 'packages')
const { HASHES = '' } = process.env

/** Ends this process if there are faults. */
function stopAt(faults) {
  if (faults.length === 0) return
  console.error(faults.join('\n'))
  process.exit(1)
}

function packageOf([file, content]) {
  const path = join(directory, file)
  const extract = (name) => execFileSync('tar', ['-xzOf', path, `package/${name}`], { maxBuffer: 1 << 28 })
  const { name, version, main } = JSON.parse(extract('package.json'))
  const integrity = `sha512-${createHash('sha512').update(content).digest('base64')}`
  const binary = main.endsWith('.node') ? [main, extract(main)] : undefined
  return { path, id: `${name}@${version}`, isPreview: version.includes('-'), integrity, binary }
}

/** The integrity of a version in the registry; `undefined` if it is not published. */
function publishedIntegrity(id) {
  const args = ['view', id, 'dist.integrity', '--json']
  const { status, stdout, stderr, error } = spawnSync('npm', args, { encoding: 'utf8' })
  if (status === 0) return stdout.trim() === '' ? undefined : JSON.parse(stdout)
  if (error === undefined && JSON.parse(stdout || '{}').error?.code === 'E404') return undefined
  throw error ?? new Error(`npm view ${id}: ${stderr}`)
}

const names = readdirSync(directory).filter((name) => name.endsWith('.tgz'))
stopAt(names.length === 0 ? [`${directory} contains no packages`] : [])
const tarballs = names.map((name) => [name, readFileSync(join(directory, name))])
stopAt(differences(tarballs, HASHES, '.tgz'))
const packages = tarballs.map(packageOf)
const binaries = packages.flatMap(({ binary }) => (binary ? [binary] : []))
stopAt(differences(binaries, HASHES, '.node'))
const faults = []
const missing = []
for (const each of packages) {
  const published = publishedIntegrity(each.id)
  if (published === undefined) missing.push(each)
  else if (published === each.integrity) console.log(`${each.id} is published already`)
  else faults.push(`${each.id} is published with other bytes: ${published}, not ${each.integrity}`)
}
stopAt(faults)
const platformsFirst = missing.toSorted((a, b) => Number(!a.binary) - Number(!b.binary))
for (const { path, id, isPreview } of platformsFirst) {
  const tag = isPreview ? 'next' : 'latest'
  execFileSync('npm', ['publish', path, '--access', 'public', '--tag', tag], { stdio: 'inherit' })
  console.log(`${id} is published`)
}
