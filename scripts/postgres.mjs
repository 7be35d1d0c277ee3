// The servers that the tests of locks on PostgreSQL start, as Debian has them.
import { existsSync, readdirSync } from 'node:fs'
import { file, installPackages } from './debian.mjs'

const INSTALLED = '/usr/lib/postgresql'

const packages = {
  postgresql: () =>
    existsSync(INSTALLED) &&
    readdirSync(INSTALLED).some((version) => existsSync(`${INSTALLED}/${version}/bin/postgres`)),
  pgbouncer: file('/usr/sbin/pgbouncer'),
  iproute2: file('/sbin/ip'),
}

/** Installs them. Where they cannot be had the reason is given, and under CI that ends the process. */
export function installPostgres() {
  const why = process.platform === 'linux' ? installPackages(packages) : 'the servers are those of Debian'
  if (why !== undefined && process.env.CI && process.platform === 'linux') {
    console.error(`the tests of locks on PostgreSQL cannot run: ${why}`)
    process.exit(1)
  }
  return why
}
