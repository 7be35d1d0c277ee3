// Everything that must hold before a change lands, the quick checks first.
import { build, install, root, run } from './steps.mjs'
import { compile, suite } from './suite.mjs'

const bin = (name) => `${root}node_modules/.bin/${name}`

install()
build()

run('cargo', ['fmt', '--check'])
for (const features of [[], ['--features', 'node']])
  run('cargo', ['clippy', '--locked', '--all-targets', ...features, '--', '-D', 'warnings'])
run('cargo', ['doc', '--locked', '--no-deps', '--features', 'node'], {
  env: { ...process.env, RUSTDOCFLAGS: '-D warnings' },
})
run(bin('biome'), ['ci', '--error-on-warnings', '.'])
run(bin('tsc'), ['-p', 'tsconfig.facade.json'])
compile()
run(process.execPath, ['scripts/check-workflows.mjs'])
run(process.execPath, ['scripts/check-dependencies.mjs'])
run(process.execPath, ['scripts/docs.mjs'])

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
suite()
