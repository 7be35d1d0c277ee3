// The licences of the crates that are compiled into the binary, for the packages that contain it.
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root } from './steps.mjs'

function cargo(command, ...args) {
  const settings = { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 }
  return execFileSync('cargo', [command, '--locked', '--features', 'node', ...args], settings)
}

/** The metadata of each crate in the addon, on any platform. */
export function linkedCrates() {
  const tree = ['--package', 'reconcile-lock', '--edges', 'normal,no-proc-macro', '--target', 'all']
  const linked = cargo('tree', ...tree, '--prefix', 'none', '--format', '{p}').match(/^\S+ v\S+/gm)
  const { packages } = JSON.parse(cargo('metadata', '--format-version', '1'))
  return packages.filter(
    ({ name, version }) => name !== 'reconcile-lock' && linked.includes(`${name} v${version}`),
  )
}

/** The crates as a software bill of materials of a package, in the JSON of CycloneDX. */
export function billOfMaterials(crates, name, version) {
  const component = { type: 'library', name, version, purl: `pkg:npm/${name.replace('@', '%40')}@${version}` }
  const components = crates.map(({ name, version, license }) => ({
    ...{ type: 'library', name, version, purl: `pkg:cargo/${name}@${version}` },
    licenses: [{ expression: license.replaceAll('/', ' OR ') }],
  }))
  const about = { bomFormat: 'CycloneDX', specVersion: '1.6', version: 1, metadata: { component } }
  return `${JSON.stringify({ ...about, components }, null, 2)}\n`
}

/** One text with the licences of all crates. */
export function thirdPartyLicenses(crates) {
  const seen = new Map()
  const sections = crates.map(({ name, version, license, repository, manifest_path: manifest }) => {
    const home = dirname(manifest)
    const files = readdirSync(home).filter((file) =>
      /^(un)?licen[cs]e|^copying|^copyright|^notice/i.test(file),
    )
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
