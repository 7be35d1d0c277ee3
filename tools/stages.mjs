// The stages of the gate, in the order of the table. The background stages share no target directory with the others,
// because Cargo locks it.
import { root } from './steps.mjs'

const CORE = '--package reconcile-lock --lib --tests'
const MODEL = '--package reconcile-lock-model --profile model --test model'
/** The tests of the model that `npm test` runs. */
const TWO_PROCESSES = ['two_processes_twice', 'two_processes_and_crashes_anywhere']
/** Prints the time of each test; RUSTC_BOOTSTRAP enables this nightly option in a stable compiler. */
const TIMED = 'cargo test --locked --config target."cfg(all())".runner=["env","RUSTC_BOOTSTRAP=1"]'
const TIMES = '-- -Zunstable-options --report-time'
/** The targets that each gate links: that of this machine as it is published, and those whose code runs nowhere here. */
const LINKED = ['x86_64-unknown-linux-gnu', 'aarch64-apple-darwin', 'x86_64-apple-darwin']
const STRESS = 'tools/stress.mjs --no-build --workers 16'

/** Splits lines at spaces; this Node.js runs the project's scripts, and npm programs start by their path. */
const commands = (/** @type {string[]} */ ...lines) =>
  lines.map((line) => {
    const [program, ...args] = line.split(' ')
    if (program.endsWith('.mjs') || program.includes('node_modules/typescript/'))
      return { command: process.execPath, args: [program, ...args] }
    return { command: program.replace(/^node_modules/, `${root}node_modules`), args }
  })

/** @type {import('./gate.mjs').Stage[]} */
export const stages = [
  {
    name: 'build',
    commands: commands(
      'tools/build.mjs',
      `cargo test --no-run --locked ${CORE}`,
      `cargo test --no-run --locked ${MODEL} --no-default-features`,
    ),
  },
  {
    name: 'format',
    commands: commands(
      'cargo fmt --check',
      'node_modules/.bin/biome ci --error-on-warnings .',
      'tools/check.mjs commits',
    ),
  },
  {
    name: 'lint',
    commands: commands(
      'cargo clippy --locked --all-targets --no-default-features -- -D warnings',
      'cargo clippy --locked --package reconcile-lock --lib --features node -- -D warnings',
      'env RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --features node',
      'tools/check.mjs workflows',
      'tools/check.mjs dependencies',
      'tools/docs.mjs',
    ),
  },
  {
    name: 'types',
    // By path, because `tsc` may be an older compiler.
    commands: commands('node_modules/typescript/bin/tsc -p lib', 'tools/suite.mjs --compile'),
  },
  {
    name: 'core',
    hasTests: true,
    commands: commands(`${TIMED} ${CORE} ${TIMES}`, 'cargo test --locked --package reconcile-lock --doc'),
  },
  {
    name: 'quick model',
    hasTests: true,
    commands: commands(`${TIMED} ${MODEL} --no-default-features ${TIMES} --exact ${TWO_PROCESSES.join(' ')}`),
  },
  { name: 'node', hasTests: true, commands: commands('tools/suite.mjs --run') },
  { name: 'stress', hasTests: true, commands: commands(`${STRESS} --seconds 10`) },
  { name: 'example', long: true, hasTests: true, commands: commands('tools/example.mjs') },
  {
    name: 'model',
    long: true,
    background: true,
    hasTests: true,
    commands: commands(
      'cargo clippy --locked --package reconcile-lock-model --all-targets -- -D warnings',
      `${TIMED} ${MODEL} ${TIMES} --skip ${TWO_PROCESSES.join(' --skip ')}`,
    ),
  },
  {
    name: 'long node',
    long: true,
    hasTests: true,
    commands: commands('tools/bundlers.mjs', 'tools/suite.mjs --run --long'),
  },
  {
    name: 'long stress',
    long: true,
    hasTests: true,
    commands: commands(
      `${STRESS} --seconds 20 --variant native`,
      `${STRESS} --seconds 6 --variant native --on disk,overlayfs,nfs`,
      `${STRESS} --seconds 10 --variant threads,bun,legacy,slots,readers`,
      `${STRESS} --seconds 3 --variant control`,
    ),
  },
  {
    name: 'sizes',
    long: true,
    background: true,
    hasTests: true,
    commands: commands(`tools/cross.mjs --only ${LINKED.join()} --sizes`),
  },
  {
    name: 'servers',
    long: true,
    hasTests: true,
    commands: commands('tools/runtimes.mjs --servers --no-build'),
  },
  {
    name: 'runtimes',
    long: true,
    hasTests: true,
    commands: commands('tools/runtimes.mjs --no-build --others'),
  },
]
