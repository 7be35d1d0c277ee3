'use strict'

// Why there is no native binary that this machine can load. Read only when that has happened.

const { existsSync } = require('node:fs')
const { basename, join } = require('node:path')
const { isFor, readBinary } = require('./binary.js')
const { LockError } = require('./errors.js')
const { libcHere, nameHere, platformOf } = require('./platforms.js')
const { isCutOff } = require('./whole.js')
const { name: packageName, napi, version } = require('../package.json')

const root = join(__dirname, '..')
const fromSource = join(root, 'install/from-source.js')
const published = napi.targets.map(platformOf)

/**
 * @typedef {object} Finding
 * @property {string} why one sentence
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
function failure(name, { why, path, cause }) {
  const message = [
    `${packageName} has no native binary that works here: ${machine()}, ${runtime()}`,
    `  package: ${packageName}-${name}`,
    `  cause: ${why}`,
    `  to mend it: npm rebuild ${packageName} --build-from-source`,
    `  or, where npm (from 12 on) refuses that option: node "${fromSource}" --build-from-source`,
  ].join('\n')
  const about = { code: 'E_LOCK_NATIVE', path: path ?? join(root, fileOf(name)), recoverable: false }
  const error = new LockError(message, about)
  if (cause !== undefined) Object.defineProperty(error, 'cause', { value: cause, configurable: true })
  return error
}

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
  return { why: 'binding.js is missing; in a clone, npm run build makes it and the binary' }
}

/** @returns {Finding | undefined} */
function forced() {
  const { NAPI_RS_NATIVE_LIBRARY_PATH: path, NAPI_RS_FORCE_WASI, NAPI_RS_WASI_FLAVOR } = process.env
  if (path) return { why: `NAPI_RS_NATIVE_LIBRARY_PATH is set; ${refused(path).why}`, path }
  if (!NAPI_RS_WASI_FLAVOR && NAPI_RS_FORCE_WASI !== 'error') return undefined
  return { why: 'NAPI_RS_FORCE_WASI or NAPI_RS_WASI_FLAVOR is set, and there is no WebAssembly build' }
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
    return { why: `no binary is published for ${name}; only for ${listed(published)}`, cause }
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
