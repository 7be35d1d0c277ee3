// Programs of a newer Debian, also for other machines, without a change to the package lists of this one.
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { makeOnce } from '../installers.mjs'
import { output, work } from './build.mjs'

/** It has Node.js for more machines than npm has, and its musl supports what the libraries of the wheel need. */
const RELEASE = 'trixie'

/** The libraries of a machine, and Node.js in `usr/bin`. */
export const systemOf = (architecture) => join(work, 'debian', architecture)

/** Unpacks `systemOf` a machine. */
export function installSystem(architecture) {
  const directory = systemOf(architecture)
  const missing = makeOnce(directory, (unfinished) => unpack(architecture, 'nodejs', unfinished))
  if (missing !== undefined) throw new Error(missing)
}

/** Unpacks a package and those that it depends on. */
export function unpack(architecture, name, directory) {
  const asked = ['--format', '$(REPO_URI)', 'Created-By: Packages', 'Origin: Debian']
  const uris = output('apt-get', ['indextargets', ...asked]).split('\n')
  const archive = uris.find((uri) => uri.endsWith('/debian/'))
  if (archive === undefined) throw new Error('apt-get knows no archive of Debian')
  const apt = join(work, 'apt', architecture)
  rmSync(apt, { recursive: true, force: true })
  for (const path of ['lists/partial', 'archives/partial']) mkdirSync(join(apt, path), { recursive: true })
  const sources = join(apt, 'sources.list')
  const key = '/usr/share/keyrings/debian-archive-keyring.gpg'
  writeFileSync(sources, `deb [signed-by=${key}] ${archive} ${RELEASE} main\n`)
  const options = [
    `Dir::Etc::SourceList=${sources}`,
    'Dir::Etc::SourceParts=/dev/null',
    `Dir::State::Lists=${join(apt, 'lists')}`,
    // No package is installed.
    'Dir::State::status=/dev/null',
    `Dir::Cache=${apt}`,
    `APT::Architecture=${architecture}`,
    `APT::Architectures=${architecture}`,
    'APT::Sandbox::User=root',
  ].flatMap((option) => ['-o', option])
  output('apt-get', [...options, '-qq', 'update'])
  const flags = ['-qq', '--yes', '--no-install-recommends', '--download-only']
  output('apt-get', [...options, ...flags, 'install', name])
  const archives = join(apt, 'archives')
  for (const file of readdirSync(archives).filter((each) => each.endsWith('.deb')))
    output('dpkg-deb', ['-x', join(archives, file), directory])
  // Programs name their loader in `/lib`.
  symlinkSync('usr/lib', join(directory, 'lib'))
}
