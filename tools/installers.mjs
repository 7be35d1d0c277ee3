// Packages of npm and PyPI for the tools and tests, in directories below target/.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './steps.mjs'

/** A directory for what is installed by a list of packages. */
export const directoryFor = (name, list) =>
  join(root, 'target', name, createHash('sha256').update(list).digest('hex').slice(0, 12))

/** Makes a directory, unless it is complete; returns why that fails. */
export function makeOnce(directory, fill) {
  if (existsSync(directory)) return undefined
  const unfinished = `${directory}.${process.pid}`
  try {
    mkdirSync(unfinished, { recursive: true })
    fill(unfinished)
    renameSync(unfinished, directory)
    return undefined
  } catch (error) {
    // Another process may have made it meanwhile.
    return existsSync(directory) ? undefined : error.message
  } finally {
    rmSync(unfinished, { recursive: true, force: true })
  }
}

const call = (command, args) =>
  execFileSync(command, args, { stdio: 'pipe', shell: process.platform === 'win32' })

const NPM = 'install --no-save --ignore-scripts --no-audit --no-fund --prefix'.split(' ')
export const installFromNpm = (directory, ...packages) => call('npm', [...NPM, directory, ...packages])

const PIP =
  '-m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --target'
export const installFromPip = (directory, list, ...flags) =>
  call('python3', [...PIP.split(' '), directory, '-r', join(root, list), ...flags])
