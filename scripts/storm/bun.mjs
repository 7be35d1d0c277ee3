// Bun, as its npm package, beside the build's results: the only thing that a storm installs.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { root } from '../steps.mjs'

const version = '1.4.5'
const name = '@oven/bun-linux-x64'
// Not in `build`, which `npm test` empties.
const directory = join(root, 'target', 'bun')
const executable = join(directory, 'node_modules', name, 'bin', 'bun')

const call = (command, args) => spawnSync(command, args, { encoding: 'utf8' })
const runs = () => existsSync(executable) && call(executable, ['--version']).stdout?.trim() === version

/** @returns {{ execPath: string } | { skipped: string }} */
export function findBun() {
  if (runs()) return { execPath: executable }
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return { skipped: `${name} is not for ${process.platform} ${process.arch}` }
  const flags = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', directory]
  const { status, stderr, error } = call('npm', ['install', ...flags, `${name}@${version}`])
  if (status !== 0) {
    const said = stderr?.split('\n').find((line) => /^npm (error|ERR!)/.test(line))
    return {
      skipped: `${name}@${version} cannot be installed: ${error?.message ?? said ?? `exit code ${status}`}`,
    }
  }
  return runs() ? { execPath: executable } : { skipped: `${executable} does not run here` }
}
