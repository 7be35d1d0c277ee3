// The example as a user of the package has it: copied elsewhere, with the packed addon installed, compiled.
import { cpSync, mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { root, run } from './steps.mjs'

/** Leaves out what an earlier build or a try by hand has left in the example's directory. */
const built = new Set(['node_modules', 'dist', 'package-lock.json'])

/** Packs the built addon, installs it in a copy of the example, compiles that, and gives its directory. */
export function prepareExample() {
  const temporary = mkdtempSync(join(realpathSync(tmpdir()), 'reconcile-example-'))
  process.on('exit', () => rmSync(temporary, { recursive: true, force: true }))
  // Ended by a signal, a process emits no `exit`.
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

  const packed = join(temporary, 'packed')
  const example = join(temporary, 'reconcile')
  mkdirSync(packed)
  cpSync(join(root, 'examples/reconcile'), example, {
    recursive: true,
    filter: (path) => !built.has(basename(path)),
  })
  // Not `prepare`: it would build a second time.
  run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', packed])
  const [tarball] = readdirSync(packed)
  const quiet = ['--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund']
  // Its development packages are those of the project; npm asks for what it knows of them all the same.
  run('npm', ['install', ...quiet, '--omit=dev', '--prefer-offline', join(packed, tarball)], { cwd: example })
  const types = join(root, 'node_modules/@types')
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', example, '--typeRoots', types])
  return example
}
