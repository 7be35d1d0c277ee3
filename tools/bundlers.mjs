// The tools for the tests of docs/bundling.md: npm packages, installed below target/. `node tools/bundlers.mjs` installs
// them before the tests, which run at the same time.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { installRuntime, runtimes } from './runtimes/install.mjs'
import { root } from './steps.mjs'

const packages = [
  '@electron/asar@4.3.2',
  '@vercel/ncc@0.45.0',
  '@vercel/nft@1.11.5',
  '@yarnpkg/cli-dist@4.18.1',
  'next@16.4.6',
  'pnpm@12.4.2',
  'postject@1.0.0-alpha.6',
  'react@19.3.1',
  'react-dom@19.3.1',
  'rollup@4.68.5',
  'tsdown@0.23.7',
  'tsup@9.0.0',
  'webpack@5.112.2',
]

const runtime = (name) => installRuntime(runtimes.find((each) => each.name.startsWith(name)))

/** A Node.js that is new enough for all bundlers. */
export const installNode = () => runtime('node@24')
export const installBun = () => runtime('bun@')

/**
 * Installs the bundlers and package managers unless they are installed.
 * @returns {{ modules?: string, missing?: string }} their `node_modules`, or why there is none
 */
export function installBundlers() {
  const version = createHash('sha256').update(packages.join()).digest('hex').slice(0, 12)
  const home = join(root, 'target/bundlers', version)
  const modules = join(home, 'node_modules')
  if (existsSync(home)) return { modules }
  const unfinished = `${home}.${process.pid}`
  const flags = ['--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--prefix', unfinished]
  const settings = { encoding: 'utf8', shell: process.platform === 'win32' }
  const { status, stderr, error } = spawnSync('npm', ['install', ...flags, ...packages], settings)
  if (status === 0) {
    renameSync(unfinished, home)
    return { modules }
  }
  rmSync(unfinished, { recursive: true, force: true })
  return { missing: error?.message ?? stderr.trim() }
}

if (process.argv[1] === import.meta.filename)
  for (const { missing } of [installNode(), installBun(), installBundlers()])
    if (missing !== undefined) console.log(`SKIPPED, as ${missing}: tests in __test__/bundling/`)
