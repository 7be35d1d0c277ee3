// The stages of the gate, in the order of the table.

const CORE = '--package reconcile-lock --lib --tests'
const MODEL = '--package reconcile-lock-model --profile model --test model'
/** The tests of the model that `npm test` runs. */
const TWO_PROCESSES = ['two_processes_twice', 'two_processes_and_crashes_anywhere']
/** Prints the time of each test; RUSTC_BOOTSTRAP enables this nightly option in a stable compiler. */
const TIMED = `cargo test --locked --config 'target."cfg(all())".runner=["env","RUSTC_BOOTSTRAP=1"]'`
const TIMES = '-- -Zunstable-options --report-time'
/** The targets that each gate links: that of this machine as it is published, and those whose code runs nowhere here. */
const LINKED = 'x86_64-unknown-linux-gnu,aarch64-apple-darwin,x86_64-apple-darwin'
const STRESS = 'node tools/stress.mjs --no-build --workers 16'

/** The command lines of each stage, for a shell. */
const checks = {
  build: [
    'node tools/build.mjs',
    `cargo test --no-run --locked ${CORE}`,
    `cargo test --no-run --locked ${MODEL} --no-default-features`,
  ],
  format: [
    'cargo fmt --check',
    'node_modules/.bin/biome ci --error-on-warnings .',
    'node tools/check.mjs commits',
  ],
  lint: [
    'cargo clippy --locked --all-targets --no-default-features -- -D warnings',
    'cargo clippy --locked --package reconcile-lock --lib --features node -- -D warnings',
    'RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --features node',
    'node tools/check.mjs workflows',
    'node tools/check.mjs dependencies',
    'node tools/docs.mjs',
  ],
  // By path, because `tsc` may be an older compiler.
  types: ['node node_modules/typescript/bin/tsc -p lib', 'node tools/suite.mjs --compile'],
}
const tests = {
  core: [`${TIMED} ${CORE} ${TIMES}`, 'cargo test --locked --package reconcile-lock --doc'],
  'quick model': [`${TIMED} ${MODEL} --no-default-features ${TIMES} --exact ${TWO_PROCESSES.join(' ')}`],
  node: ['node tools/suite.mjs --run'],
  stress: [`${STRESS} --seconds 10`],
}
/** The stages that `npm run test:all` adds. */
const longTests = {
  example: ['node tools/example.mjs'],
  'long node': ['node tools/bundlers.mjs', 'node tools/suite.mjs --run --long'],
  'long stress': [
    `${STRESS} --seconds 20 --variant native`,
    `${STRESS} --seconds 6 --variant native --on disk,overlayfs,nfs`,
    `${STRESS} --seconds 10 --variant threads,bun,legacy,slots,readers`,
    `${STRESS} --seconds 3 --variant control`,
  ],
  servers: ['node tools/runtimes.mjs --servers --no-build'],
  runtimes: ['node tools/runtimes.mjs --no-build --others'],
}
/** These compute, so they run beside the others, which mostly wait. Cargo locks target directories: they share none. */
const backgroundTests = {
  model: [
    'nice -n 19 cargo clippy --locked --package reconcile-lock-model --all-targets -- -D warnings',
    `nice -n 19 ${TIMED} ${MODEL} ${TIMES} --skip ${TWO_PROCESSES.join(' --skip ')}`,
  ],
  sizes: [`nice -n 19 node tools/cross.mjs --only ${LINKED} --sizes`],
}

const stagesOf = (commands, marks = {}) =>
  Object.entries(commands).map(([name, commands]) => ({ name, commands, ...marks }))

/** `hasTests`: the stage fails if it counts no test. */
export const stages = [
  ...stagesOf(checks),
  ...stagesOf(tests, { hasTests: true }),
  ...stagesOf(longTests, { hasTests: true, long: true }),
  ...stagesOf(backgroundTests, { hasTests: true, long: true, background: true }),
]
