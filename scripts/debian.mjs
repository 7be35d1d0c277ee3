// Packages of Debian, installed where that is possible.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { run } from './steps.mjs'

/**
 * Installs what is missing.
 * @param {Record<string, () => boolean>} packages whether each is there
 * @returns {string | undefined} why something is missing all the same
 */
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

/** @param {string} path */
export const file = (path) => () => existsSync(path)
