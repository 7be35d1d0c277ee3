// The stages of the gate, in the order in which they run.
import { root } from '../steps.mjs'

/** @typedef {import('./run.mjs').Stage} Stage */

const node = (/** @type {string} */ script, ...args) => ({
  command: process.execPath,
  args: [`scripts/${script}.mjs`, ...args],
})
const bin = (/** @type {string} */ name, ...args) => ({ command: `${root}node_modules/.bin/${name}`, args })
// Not by its name: an older compiler is installed too.
const tsc = (/** @type {string[]} */ ...args) => ({
  command: process.execPath,
  args: [`${root}node_modules/typescript/bin/tsc`, ...args],
})
const cargo = (/** @type {string[]} */ ...args) => ({ command: 'cargo', args })
const clippy = (/** @type {string[]} */ ...options) =>
  cargo('clippy', '--locked', ...options, '--', '-D', 'warnings')

/** Tests of Rust, with the time that each takes, which a stable compiler shows if it takes itself for a nightly one. */
const cargoTest = (/** @type {string[]} */ options, /** @type {string[]} */ ...names) =>
  cargo(
    ...[
      'test',
      '--locked',
      '--config',
      `target."cfg(all())".runner = ["env", "RUSTC_BOOTSTRAP=1"]`,
      ...options,
    ],
    ...['--', '-Zunstable-options', '--report-time', ...names],
  )
/** What `npm test` runs of the model. */
const TWO_PROCESSES = ['two_processes_twice', 'two_processes_and_crashes_anywhere']
const MODEL = ['--package', 'reconcile-lock-model', '--profile', 'model', '--test', 'model']
const QUICK_MODEL = [...MODEL, '--no-default-features']
const CORE = ['--package', 'reconcile-lock', '--lib', '--tests']

const stress = (/** @type {string[]} */ ...args) => node('stress', '--no-build', '--workers', '16', ...args)

/** @type {Stage[]} */
export const stages = [
  {
    name: 'build',
    commands: [
      node('build'),
      cargo('test', '--no-run', '--locked', ...CORE),
      cargo('test', '--no-run', '--locked', ...QUICK_MODEL),
    ],
  },
  {
    name: 'format',
    commands: [
      cargo('fmt', '--check'),
      bin('biome', 'ci', '--error-on-warnings', '.'),
      node('check', 'commits'),
    ],
  },
  {
    name: 'lint',
    commands: [
      clippy('--all-targets', '--no-default-features'),
      clippy('--package', 'reconcile-lock', '--lib', '--features', 'node'),
      {
        ...cargo('doc', '--locked', '--no-deps', '--features', 'node'),
        env: { RUSTDOCFLAGS: '-D warnings' },
      },
      node('check', 'workflows'),
      node('check', 'dependencies'),
      node('docs'),
    ],
  },
  { name: 'types', commands: [tsc('-p', 'lib'), node('suite', '--compile')] },
  {
    name: 'core',
    hasTests: true,
    commands: [cargoTest(CORE), cargo('test', '--locked', '--package', 'reconcile-lock', '--doc')],
  },
  {
    name: 'quick model',
    hasTests: true,
    commands: [cargoTest(QUICK_MODEL, '--exact', ...TWO_PROCESSES)],
  },
  { name: 'node', hasTests: true, commands: [node('suite', '--run')] },
  { name: 'stress', hasTests: true, commands: [stress('--seconds', '10')] },
  { name: 'example', long: true, hasTests: true, commands: [node('example-test')] },
  {
    name: 'model',
    long: true,
    hasTests: true,
    commands: [
      clippy('--package', 'reconcile-lock-model', '--all-targets'),
      cargoTest(MODEL, ...TWO_PROCESSES.flatMap((name) => ['--skip', name])),
    ],
  },
  { name: 'long node', long: true, hasTests: true, commands: [node('suite', '--run', '--long')] },
  {
    name: 'long stress',
    long: true,
    hasTests: true,
    commands: [
      stress('--seconds', '20', '--variant', 'native'),
      stress('--seconds', '6', '--variant', 'native', '--on', 'disk,overlayfs,nfs'),
      stress('--seconds', '10', '--variant', 'threads,bun,legacy'),
      stress('--seconds', '3', '--variant', 'control'),
    ],
  },
  {
    name: 'sizes',
    long: true,
    hasTests: true,
    commands: [node('cross', '--only', 'x86_64-unknown-linux-gnu', '--sizes')],
  },
  { name: 'servers', long: true, hasTests: true, commands: [node('servers', '--no-build')] },
  { name: 'runtimes', long: true, hasTests: true, commands: [node('runtimes', '--no-build', '--others')] },
]
