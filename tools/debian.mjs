// Installs Debian packages if the system is Debian and the user is root.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { run } from './steps.mjs'

/** Installs packages, given by name with a check whether each is there; returns why one is still missing. */
export function installPackages(packages) {
  const missing = Object.keys(packages).filter((name) => !packages[name]())
  if (missing.length === 0) return undefined
  if (process.getuid?.() !== 0 || spawnSync('apt-get', ['--version']).status !== 0)
    return `these Debian packages are needed: ${missing.join(' ')}`
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  run('apt-get', ['update', '-qq'], { env })
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing], { env })
  return undefined
}

export const file = (path) => () => existsSync(path)

/** Installs the servers that the tests start; returns why they are missing, or exits under CI. */
export function installPostgres() {
  if (process.platform !== 'linux') return 'the servers are those of Debian'
  const home = '/usr/lib/postgresql'
  const versions = existsSync(home) ? readdirSync(home) : []
  const why = installPackages({
    postgresql: () => versions.some((version) => existsSync(`${home}/${version}/bin/postgres`)),
    pgbouncer: file('/usr/sbin/pgbouncer'),
    iproute2: file('/sbin/ip'),
  })
  if (why !== undefined && process.env.CI) {
    console.error(`the tests of locks on PostgreSQL cannot run: ${why}`)
    process.exit(1)
  }
  return why
}
