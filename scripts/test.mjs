// Everything that must hold before a change lands, the quick checks first.
import { readdirSync, rmSync } from 'node:fs'
import { build, install, root, run } from './steps.mjs'

const bin = (name) => `${root}node_modules/.bin/${name}`

install()
build()

run('cargo', ['fmt', '--check'])
run('cargo', ['clippy', '--locked', '--all-targets', '--', '-D', 'warnings'])
run('cargo', ['clippy', '--locked', '--all-targets', '--no-default-features', '--', '-D', 'warnings'])
run('cargo', ['doc', '--locked', '--no-deps'], { env: { ...process.env, RUSTDOCFLAGS: '-D warnings' } })
run(bin('biome'), ['ci', '--error-on-warnings', '.'])
run(bin('tsc'), ['-p', 'tsconfig.facade.json'])
// A test that was renamed must not go on running under its old name.
rmSync(`${root}build`, { recursive: true, force: true })
run(bin('tsc'), ['-p', 'tsconfig.json'])

run('cargo', ['test', '--locked', '--package', 'reconcile-lock'])
// Minutes in a release build, hours in another.
run('cargo', ['test', '--locked', '--release', '--test', 'model'])
run(process.execPath, ['scripts/example-test.mjs'])
for (const args of [
  ['--seconds', '20', '--variant', 'native'],
  ['--seconds', '6', '--variant', 'native', '--on', 'disk,overlayfs,nfs'],
  ['--seconds', '10', '--variant', 'threads,bun,old-peers'],
  ['--seconds', '3', '--variant', 'control'],
])
  run(process.execPath, ['scripts/storm.mjs', '--no-build', '--workers', '16', ...args])
const tests = readdirSync(`${root}build/__test__`).filter((name) => name.endsWith('.test.mjs'))
// A test that hangs is a failure with a name, not a gate that is stopped from outside.
run(process.execPath, [
  '--test',
  '--test-reporter=spec',
  '--test-timeout=600000',
  ...tests.map((name) => `build/__test__/${name}`),
])
