'use strict'

// Why there is no native binary that this machine can load. Read only when that has happened.

const { existsSync } = require('node:fs')
const { basename, join } = require('node:path')
const { isFor, readBinary } = require('./binary.js')
const { LockError } = require('./errors.js')
const { libcHere, nameHere, platformOf } = require('./platforms.js')
const { isCutOff } = require('./whole.js')
const { name: packageName, napi, repository, version } = require('../package.json')

const root = join(__dirname, '..')
const published = napi.targets.map(platformOf)

/**
 * @typedef {object} Finding
 * @property {string} why one sentence
 * @property {string} [fix] what to do, if it is not to install again
 * @property {string | undefined} [path] the file that was refused
 * @property {unknown} [cause] what the system or Node.js said
 */

/**
 * napi's loader has found nothing that it can load.
 * @param {unknown} error what it threw
 */
function notLoaded(error) {
  const name = nameHere((libcLookedFor(error) ?? libcHere()?.libc) === 'musl')
  const finding = unbuilt() ?? forced() ?? ofFile(join(root, fileOf(name))) ?? ofPackage(name)
  return failure(name, { cause: error, ...finding })
}

/**
 * A binary that must not be tried.
 * @param {string} path
 */
function unloadable(path) {
  return failure(basename(path).split('.')[1] ?? '', { path, ...refused(path) })
}

/**
 * A binary of another version has been loaded.
 * @param {string | undefined} found
 */
function ofVersion(found) {
  const name = nameHere(libcHere()?.libc === 'musl')
  const local = join(root, fileOf(name))
  const path = existsSync(local) ? local : resolved(`${packageName}-${name}`)
  const why = `${path ?? 'the binary'} is of version ${found ?? 'unknown'}, and ${packageName} of ${version}`
  return failure(name, { path, why })
}

/**
 * @param {string} name of the platform
 * @param {Finding} finding
 */
function failure(name, { why, path, cause, fix = refusedByNode(cause) ?? reinstall() }) {
  const message = [
    `${packageName} has no native binary that works here: ${machine()}, ${runtime()}`,
    `  package: ${packageName}-${name}`,
    `  cause: ${why}`,
    `  fix: ${fix}`,
  ].join('\n')
  const about = { code: 'E_LOCK_NATIVE', path: path ?? join(root, fileOf(name)), recoverable: false }
  const error = new LockError(message, about)
  if (cause !== undefined) Object.defineProperty(error, 'cause', { value: cause, configurable: true })
  return error
}

/**
 * Options of Node.js that keep it from loading any addon.
 * @param {unknown} cause
 */
function refusedByNode(cause) {
  for (let each = cause; each instanceof Error; each = each.cause) {
    if (/** @type {NodeJS.ErrnoException} */ (each).code !== 'ERR_DLOPEN_DISABLED') continue
    return 'permission' in process
      ? 'start Node.js with --allow-addons beside --permission'
      : 'start Node.js without --no-addons'
  }
  return undefined
}

/** How to install again on this machine, with the package manager that made `node_modules`. */
function reinstall() {
  if (process.versions.pnp !== undefined) return 'yarn install, on this machine'
  if (existsSync(join(root, 'Cargo.toml'))) return 'npm run build, in this clone'
  const end = root.lastIndexOf('node_modules')
  // A bundler has moved this file away from its package.
  if (end < 0) return `keep ${packageName} out of the bundle (external), and install it beside the bundle`
  const modules = root.slice(0, end + 'node_modules'.length)
  const top = modules.includes('.pnpm') ? modules.slice(0, modules.indexOf('.pnpm') - 1) : modules
  const found = MANAGERS.find(({ leaves }) => leaves.some((file) => existsSync(join(top, file))))
  return `${(found ?? NPM).command}, on this machine; node_modules of another machine does not work here`
}

const NPM = { leaves: ['.package-lock.json'], command: 'npm install --include=optional' }
const MANAGERS = [
  { leaves: ['.pnpm', '.modules.yaml'], command: 'pnpm install --force' },
  { leaves: ['.yarn-integrity'], command: 'yarn install --force' },
  { leaves: ['.yarn-state.yml'], command: 'yarn install' },
  NPM,
  { leaves: ['../bun.lock', '../bun.lockb'], command: 'bun install --force' },
]

function machine() {
  const here = libcHere()
  const libc = here ? ` ${[here.libc, here.version].join(' ').trim()}` : ''
  return `${process.platform} ${process.arch}${libc}`
}

function runtime() {
  const { bun, deno, node } = process.versions
  if (bun !== undefined) return `Bun ${bun}`
  return deno === undefined ? `Node.js ${node}` : `Deno ${deno}`
}

/** @param {string} name of the platform */
const fileOf = (name) => `${napi.binaryName}.${name}.node`

/**
 * The errors of napi's loader stand in a chain.
 * @param {unknown} error
 * @returns {'glibc' | 'musl' | undefined} `undefined` if it has looked for nothing
 */
function libcLookedFor(error) {
  for (let each = error; each instanceof Error; each = each.cause) {
    const [, found] = /reconcile-lock[-.]linux-\w+-(musl|gnu)/.exec(each.message) ?? []
    if (found !== undefined) return found === 'musl' ? 'musl' : 'glibc'
  }
  return undefined
}

/** @returns {Finding | undefined} */
function unbuilt() {
  if (existsSync(join(root, 'binding.js'))) return undefined
  return { why: 'binding.js is missing' }
}

/** @returns {Finding | undefined} */
function forced() {
  const { NAPI_RS_NATIVE_LIBRARY_PATH: path, NAPI_RS_FORCE_WASI, NAPI_RS_WASI_FLAVOR } = process.env
  if (path)
    return {
      why: `NAPI_RS_NATIVE_LIBRARY_PATH is set; ${refused(path).why}`,
      path,
      fix: 'unset NAPI_RS_NATIVE_LIBRARY_PATH',
    }
  if (!NAPI_RS_WASI_FLAVOR && NAPI_RS_FORCE_WASI !== 'error') return undefined
  return {
    why: 'NAPI_RS_FORCE_WASI or NAPI_RS_WASI_FLAVOR is set, and there is no WebAssembly build',
    fix: 'unset NAPI_RS_FORCE_WASI and NAPI_RS_WASI_FLAVOR',
  }
}

/**
 * @param {string} path
 * @returns {Finding | undefined}
 */
function ofFile(path) {
  return existsSync(path) ? { path, ...refused(path) } : undefined
}

/**
 * @param {string} name of the platform
 * @returns {Finding}
 */
function ofPackage(name) {
  const wanted = `${packageName}-${name}`
  const path = resolved(wanted)
  if (path !== undefined) return { path, ...refused(path) }
  const cause = errorOf(wanted)
  if (resolved(`${wanted}/package.json`))
    return { why: `${wanted} is installed, but its file is missing`, cause }
  if (!published.some((/** @type {{ name: string }} */ platform) => platform.name === name))
    return {
      why: `no binary is published for ${name}; only for ${listed(published)}`,
      cause,
      fix: `build it with npm run build in a clone of ${repository.url.replace(/^git\+|\.git$/g, '')}`,
    }
  const others = published.filter((/** @type {{ name: string }} */ { name }) =>
    resolved(`${packageName}-${name}`),
  )
  if (others.length > 0) {
    const why = `${wanted} is not installed, only that of ${listed(others)}: node_modules was installed for another platform`
    return { why, cause }
  }
  const why = `${wanted} is not installed: optional dependencies were omitted, or the package's lock file is of another platform`
  return { why, cause }
}

/** @param {{ name: string }[]} platforms */
const listed = (platforms) => platforms.map(({ name }) => name).join(', ')

/** @param {string} specifier */
function resolved(specifier) {
  try {
    return require.resolve(specifier)
  } catch {
    return undefined
  }
}

/** @param {string} specifier what cannot be loaded */
function errorOf(specifier) {
  try {
    require(specifier)
    return undefined
  } catch (error) {
    return error
  }
}

/**
 * Why a file that is there cannot be loaded.
 * @param {string} path
 * @returns {Finding}
 */
function refused(path) {
  const flaw = flawOf(path)
  // Not tried: a library that was cut off would end the process.
  if (flaw?.isDeadly) return { why: `${path} ${flaw.text}` }
  const cause = errorOf(path)
  const said = cause instanceof Error ? (cause.message.split('\n')[0] ?? '') : 'Node.js refuses it'
  return { why: flaw ? `${path} ${flaw.text}` : (ofLibc(path, said) ?? said), cause }
}

/**
 * What the file itself shows.
 * @param {string} path
 * @returns {{ text: string, isDeadly?: boolean } | undefined}
 */
function flawOf(path) {
  if (isCutOff(path)) return { text: 'was cut off: its end is missing', isDeadly: true }
  /** @type {import('./binary.js').Binary} */
  let binary
  try {
    binary = readBinary(path)
  } catch (error) {
    return { text: `cannot be read: ${/** @type {Error} */ (error).message}` }
  }
  if (binary.os === undefined) return { text: `is no native library (${binary.size} bytes)` }
  if (isFor(binary, { os: process.platform, cpu: process.arch })) return undefined
  const os = binary.os === 'elf' ? 'Linux' : binary.os
  return { text: `was built for another machine: ${os} ${binary.cpu ?? 'on an unknown processor'}` }
}

/**
 * @param {string} path
 * @param {string} said what the system's loader said
 */
function ofLibc(path, said) {
  const here = libcHere()
  const runs = `this process runs with ${here?.libc} ${here?.version ?? ''}`.trim()
  if (here?.libc === 'glibc' && /version `GLIBC_[\d.]+' not found/.test(said))
    return `${path} needs glibc ${readBinary(path).glibc}, and this machine has ${here.version ?? 'an older one'}`
  if (here?.libc === 'glibc' && /\b(libc\.musl-\w+|ld-musl-\w+|libc)\.so(\.1)?:/.test(said))
    return `${path} was built for musl, and ${runs}: ${said}`
  if (here?.libc === 'musl' && readBinary(path).glibc !== undefined)
    return `${path} was built for glibc, and ${runs}: ${said}`
  return undefined
}

module.exports = { notLoaded, ofVersion, unloadable }
