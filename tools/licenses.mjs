// The licences of the crates that are compiled into the binary, for the packages that carry it.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root } from './steps.mjs'

const TEXTS = /^(licen[cs]e|copying|copyright|notice|unlicense)/i

const cargo = (...args) => execFileSync('cargo', args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 })

/** `name version` of every crate in the addon, on any platform. */
function linked() {
  const tree = [
    'tree',
    '--locked',
    '--package',
    'reconcile-lock',
    '--features',
    'node',
    '--edges',
    'normal,no-proc-macro',
  ]
  const lines = cargo(...tree, '--target', 'all', '--prefix', 'none', '--format', '{p}').split('\n')
  const crates = lines.flatMap((line) => {
    const [, name, version] = /^(\S+) v(\S+)/.exec(line) ?? []
    return name === undefined || name === 'reconcile-lock' ? [] : [`${name} ${version}`]
  })
  return new Set(crates)
}

/** The metadata of every crate in the addon. */
function crates() {
  const wanted = linked()
  const { packages } = JSON.parse(
    cargo('metadata', '--locked', '--format-version', '1', '--features', 'node'),
  )
  const found = packages.filter(({ name, version }) => wanted.has(`${name} ${version}`))
  if (found.length !== wanted.size)
    throw new Error(`${wanted.size} crates are linked, and ${found.length} known`)
  return found
}

/** The crates in a binary as a software bill of materials, in the JSON of CycloneDX. */
export function billOfMaterials(name, version) {
  const component = { type: 'library', name, version, purl: `pkg:npm/${name.replace('@', '%40')}@${version}` }
  const components = crates().map(({ name, version, license }) => ({
    ...{ type: 'library', name, version, purl: `pkg:cargo/${name}@${version}` },
    licenses: [{ expression: license.replaceAll('/', ' OR ') }],
  }))
  const about = { bomFormat: 'CycloneDX', specVersion: '1.6', version: 1, metadata: { component } }
  return `${JSON.stringify({ ...about, components }, null, 2)}\n`
}

/** One text with all licences. */
export function thirdPartyLicenses() {
  const found = crates()
  const seen = new Map()
  const sections = found.map(({ name, version, license, repository, manifest_path: manifest }) => {
    const home = dirname(manifest)
    const files = readdirSync(home).filter((file) => TEXTS.test(file))
    const texts = files.map((file) => {
      const text = readFileSync(join(home, file), 'utf8').trim()
      // Most crates have the same licence texts.
      if (seen.has(text)) return `${file}: as that of ${seen.get(text)}`
      seen.set(text, `${name} ${version}`)
      return `${file}:\n\n${text}`
    })
    return [`${name} ${version}: ${license}`, repository ?? '', ...texts].join('\n\n')
  })
  const rust = 'The Rust standard library: MIT OR Apache-2.0\n\nhttps://github.com/rust-lang/rust'
  const rule = `\n\n${'-'.repeat(80)}\n\n`
  return `The binary contains code of these projects.${rule}${[...sections, rust].join(rule)}\n`
}
