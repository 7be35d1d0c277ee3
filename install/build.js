'use strict'

const { spawnSync } = require('node:child_process')
const { copyFileSync, mkdtempSync, readFileSync, renameSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { libcHere, nameHere } = require('../lib/platforms.js')

const root = join(__dirname, '..')

/** Says why there will be no binary, and has npm fail. */
class BuildError extends Error {}

/** Builds the binary with Rust, and puts it where the loader looks first. */
function build() {
  const temporary = mkdtempSync(join(tmpdir(), 'reconcile-lock-build-'))
  try {
    const library = compiled(process.env.CARGO_TARGET_DIR ?? temporary)
    const path = put(library)
    console.log(`reconcile-lock: built ${path}`)
  } catch (error) {
    if (!(error instanceof BuildError)) throw error
    console.error(`reconcile-lock: ${error.message}`)
    process.exitCode = 1
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
}

/**
 * Runs cargo, and gives the library that it built.
 * @param {string} target where it works
 */
function compiled(target) {
  const args = [
    'build',
    '--release',
    '--locked',
    '--lib',
    '--package',
    'reconcile-lock',
    '--features',
    'node',
  ]
  const { status, signal, error, stdout } = spawnSync(
    'cargo',
    [...args, '--target-dir', target, '--message-format', 'json-render-diagnostics'],
    {
      cwd: root,
      encoding: 'utf8',
      env: environment(),
      maxBuffer: Number.POSITIVE_INFINITY,
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  if (error) throw new BuildError(isMissing(error) ? missing() : `cargo cannot be run: ${error.message}`)
  if (status !== 0) {
    const end = signal ? `was ended by ${signal}` : `failed (exit code ${status})`
    throw new BuildError(`cargo ${args.join(' ')} ${end}. ${needed()}`)
  }
  const library = libraryIn(stdout)
  if (library === undefined) throw new BuildError('cargo has built no library that Node.js could load')
  return library
}

/** @param {NodeJS.ErrnoException} error */
const isMissing = (error) => error.code === 'ENOENT'

const missing = () => `Rust was not found (there is no cargo in PATH). ${needed()}`

function needed() {
  const manifest = readFileSync(join(root, 'Cargo.toml'), 'utf8')
  const version = /^rust-version = "(.+)"$/m.exec(manifest)?.[1]
  return `Building needs Rust ${version} or newer, from https://rustup.rs, and a linker`
}

/** musl's Rust makes no shared libraries unless it is told to. */
function environment() {
  if (libcHere()?.libc !== 'musl') return process.env
  return { ...process.env, RUSTFLAGS: `${process.env.RUSTFLAGS ?? ''} -C target-feature=-crt-static` }
}

/** @param {string} messages a JSON object in each line */
function libraryIn(messages) {
  for (const line of messages.split('\n')) {
    if (!line.startsWith('{')) continue
    const { reason, target, filenames } = JSON.parse(line)
    if (reason !== 'compiler-artifact' || target.name !== 'reconcile_lock') continue
    return filenames.find((/** @type {string} */ name) => /\.(so|dylib|dll)$/.test(name))
  }
  return undefined
}

/**
 * Puts the library in its place, unless this Node.js cannot load it.
 * @param {string} library
 */
function put(library) {
  const path = join(root, `reconcile-lock.${nameHere(libcHere()?.libc === 'musl')}.node`)
  const unproven = path.replace(/\.node$/, '.new.node')
  copyFileSync(library, unproven)
  const { status, stderr } = spawnSync(process.execPath, ['-e', 'require(process.argv[1])', unproven], {
    encoding: 'utf8',
  })
  if (status !== 0) {
    rmSync(unproven)
    throw new BuildError(`${library} was built, but this Node.js cannot load it:\n${stderr}`)
  }
  renameSync(unproven, path)
  return path
}

module.exports = { build }
