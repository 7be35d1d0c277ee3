// The tools for the tests of docs/bundling.md: npm packages, installed below target/. `node tools/bundlers.mjs` installs
// them before the tests, which run at the same time.
import { join } from 'node:path'
import { directoryFor, installFromNpm, makeOnce } from './installers.mjs'
import { installRuntime, runtimesNamed } from './runtimes/install.mjs'

const packages = [
  ...[
    '@electron/asar@4.3.2',
    '@vercel/ncc@0.45.0',
    '@vercel/nft@1.11.5',
    '@yao-pkg/pkg@6.14.2',
    '@yarnpkg/cli-dist@4.18.1',
  ],
  ...['next@16.4.6', 'pnpm@12.4.2', 'postject@1.0.0-alpha.6', 'react@19.3.1', 'react-dom@19.3.1'],
  ...['rollup@4.68.5', 'tsdown@0.23.7', 'tsup@9.0.0', 'webpack@5.112.2'],
]

/** A Node.js that is new enough for all bundlers. */
export const installNode = () => installRuntime(runtimesNamed('node@24')[0])
export const installBun = () => installRuntime(runtimesNamed('bun')[0])

/** Installs the bundlers and package managers; returns their `node_modules`, or why they are missing. */
export function installBundlers() {
  const home = directoryFor('bundlers', packages.join())
  const missing = makeOnce(home, (unfinished) => installFromNpm(unfinished, ...packages))
  return missing === undefined ? { modules: join(home, 'node_modules') } : { missing }
}

if (process.argv[1] === import.meta.filename)
  for (const { missing } of [installNode(), installBun(), installBundlers()])
    if (missing !== undefined) {
      console.log(`SKIPPED, as ${missing}: tests in __test__/bundling/`)
      if (process.env.CI) process.exitCode = 1
    }
