// The first steps of every command of this project: install packages and build the addon.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

/** For processes that only connect to loopback: Node.js would parse these certificates at each start, which takes longer. */
export const local = { NODE_EXTRA_CA_CERTS: undefined }

/** Runs a command in the project's directory, shows its output, and ends this process if it fails. */
export function run(command, args, options = {}) {
  const words = [command, ...args].join(' ')
  console.log(`\n> ${words}`)
  const { status, signal, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  if (status === 0) return
  console.error(`${words}: ${error?.message ?? (signal ? `ended by ${signal}` : `exit code ${status}`)}`)
  process.exit(status ?? 1)
}

/** Installs the packages of `package-lock.json`, unless they are installed. */
export function install() {
  const installed = `${root}node_modules/.package-lock.json`
  const wanted = `${root}package-lock.json`
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(wanted).mtimeMs) return
  // Not `npm ci`: it refuses a lock file without the packages for other platforms, which a registry may not have.
  run('npm', ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund'])
}

/** Checks the types of `lib/` and bundles it: one file for each entry point. */
export function bundle(out = `${root}dist`) {
  run(process.execPath, [`${root}node_modules/typescript/bin/tsc`, '-p', 'lib'])
  rmSync(out, { recursive: true, force: true })
  run(process.execPath, [`${root}tools/bundle.mjs`, out])
}

/**
 * Flags of rustc that take the paths of this machine out of a binary, so that builds in different directories have the
 * same bytes: the sources of the crates, of the standard library (if it is built, too) and of this project.
 */
export function pathFlags(rustc = 'rustc') {
  const registries = join(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), 'registry/src')
  // A build would create the directories only after it has got the flags.
  if (!existsSync(registries)) run('cargo', ['fetch', '--locked'])
  const { stdout = '' } = spawnSync(rustc, ['--print', 'sysroot'], { cwd: root, encoding: 'utf8' })
  const prefixes = [
    ...readdirSync(registries).map((name) => [join(registries, name), 'crates']),
    [join(stdout.trim(), 'lib/rustlib/src/rust'), 'rust'],
    [root.slice(0, -1), 'reconcile-lock'],
  ]
  // The variable with these flags separates them at spaces.
  const usable = prefixes.filter(([path]) => !/\s/.test(path))
  return usable.map(([path, name]) => `--remap-path-prefix=${path}=/${name}`).join(' ')
}

const BUILD = 'build --package reconcile-lock --platform --release --features node --no-js --dts binding.d.ts'

/** Builds the release addon beside `package.json`, with the types of its calls, and bundles the JavaScript. */
export function build(more = []) {
  const napi = `${root}node_modules/@napi-rs/cli`
  const { bin } = JSON.parse(readFileSync(`${napi}/package.json`, 'utf8'))
  const RUSTFLAGS = [process.env.RUSTFLAGS, pathFlags()].filter(Boolean).join(' ')
  const env = { ...process.env, RUSTFLAGS }
  run(process.execPath, [`${napi}/${bin.napi}`, ...BUILD.split(' '), ...more], { env })
  bundle()
}
