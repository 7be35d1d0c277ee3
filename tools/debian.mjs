// Installs Debian packages if the system is Debian and the user is root.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { run } from './steps.mjs'

const isInstalled = (name) =>
  /ok installed$/m.test(spawnSync('dpkg', ['--status', name], { encoding: 'utf8' }).stdout)

/** Installs the packages that are missing; returns why one is still missing. */
export function installPackages(names) {
  const missing = names.filter((name) => !isInstalled(name))
  if (missing.length === 0) return undefined
  if (process.getuid?.() !== 0 || spawnSync('apt-get', ['--version']).status !== 0)
    return `these Debian packages are needed: ${missing.join(' ')}`
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  run('apt-get', ['update', '-qq'], { env })
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...missing], { env })
  return undefined
}

/** Installs the servers that the tests start; returns why they are missing, or exits under CI. */
export function installPostgres() {
  if (process.platform !== 'linux') return 'the servers are those of Debian'
  const home = '/usr/lib/postgresql'
  const versions = existsSync(home) ? readdirSync(home) : []
  const hasServer = versions.some((version) => existsSync(`${home}/${version}/bin/postgres`))
  const why = installPackages([...(hasServer ? [] : ['postgresql']), 'pgbouncer', 'iproute2'])
  if (why !== undefined && process.env.CI) {
    console.error(`the tests of locks on PostgreSQL cannot run: ${why}`)
    process.exit(1)
  }
  return why
}
