import { existsSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, isAbsolute, join, resolve } from 'node:path'
import { homepage, name as packageName, repository, version } from '../package.json'
import { fileOf, isPublished, type Native, requireBundled, scoped } from './published.js'
import { type LockError, lockError } from './shared/errors.js'
import { currentTarget, glibcVersion } from './target.js'

// A bundler gives this code a `module` of its own. An ES module has no `__filename`, and webpack may replace it.
const isBundled = typeof __filename === 'undefined' || module.filename !== __filename
const bundleDirectory = typeof __dirname === 'string' && isAbsolute(__dirname) ? __dirname : undefined

/** The directory of the package, or of the bundle. */
const root = isBundled ? (bundleDirectory ?? process.cwd()) : join(__dirname, '..')

/** Takes absolute paths. Not `require`, because a bundler warns that it cannot follow such a call. */
const requireFile = createRequire(isBundled ? process.execPath : __filename)

/** Loads the addon: the file that the environment names, or the one of this installation or bundle. */
export function load(): Native {
  const target = currentTarget()
  const override = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  const places = override ? [override] : candidates(target)
  const path = override || (places.find(exists) ?? hoisted(target))
  const loaded = override && !isAbsolute(override) ? {} : tryRequire(target, path)
  if (isBinding(loaded.native) && loaded.native.VERSION === version) return loaded.native
  const { why, fix } = diagnose(target, places, path, loaded)
  const [causedBy, remedy] = override
    ? [`NAPI_RS_NATIVE_LIBRARY_PATH is set; ${why}`, `unset NAPI_RS_NATIVE_LIBRARY_PATH, or ${setTo(target)}`]
    : [why, reinstall(target, path !== undefined)]
  throw nativeError(
    target,
    resolve(path ?? join(root, fileOf(target))),
    causedBy,
    fix ?? remedy,
    loaded.error,
  )
}

/** A program can set the variable to another addon or to a module. */
const isBinding = (native: Native | null | undefined): native is Native =>
  typeof native?.acquire === 'function'

/**
 * The files that can be the binary. Node.js would search `node_modules` of every parent directory, but an unrelated
 * parent such as `/tmp` may belong to another user.
 */
function candidates(target: string): string[] {
  const file = fileOf(target)
  if (isBundled) return bundleDirectory === undefined ? [] : [join(bundleDirectory, file)]
  const installed = pnpPath(target)
  if (installed !== undefined) return [installed]
  const modules = [
    join(root, 'node_modules'),
    ...parents(root).filter((path) => basename(path) === 'node_modules'),
  ]
  const places = [...modules.map((path) => join(path, scoped(target))), ...cached(target)]
  return [join(root, file), ...places.map((path) => join(path, file))]
}

/** The place in the caches of Deno (`NAME/VERSION`) and Bun (`NAME@VERSION…`), which need no `node_modules`. */
function cached(target: string): string[] {
  const [parent, entry] = [dirname(root), basename(root)]
  if (entry === version) return [join(dirname(parent), scoped(target), entry)]
  const name = `${packageName}@${version}`
  return entry.startsWith(name) ? [join(parent, entry.replace(packageName, scoped(target)))] : []
}

/** The path in an installation of Yarn Plug'n'Play, which has no `node_modules` and declares every dependency. */
function pnpPath(target: string): string | undefined {
  const { findPnpApi } = require('node:module') as {
    findPnpApi?(path: string): { resolveRequest(name: string, from: string): string }
  }
  return attempt(() => findPnpApi?.(__filename)?.resolveRequest(scoped(target), __filename))
}

/**
 * The binary in the `node_modules` of a project that contains the project of this package, such as the root of its
 * workspace. In a directory with the sticky bit, such as `/tmp`, another user can create that project. A user who can
 * do so in another directory can also replace this package. On Windows the mode does not show that.
 */
function hoisted(target: string): string | undefined {
  if (isBundled || process.platform === 'win32') return undefined
  return parents(root)
    .filter((path) => exists(join(path, 'package.json')) && attempt(() => statSync(path).mode & 0o1000) === 0)
    .map((path) => join(path, 'node_modules', scoped(target), fileOf(target)))
    .find(exists)
}

const exists = (path: string): boolean => attempt(() => existsSync(path)) ?? false

/** With the permission model of Node.js even `existsSync` can throw. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

function parents(path: string): string[] {
  const parent = dirname(path)
  return parent === path ? [] : [parent, ...parents(parent)]
}

interface Loaded {
  /** A file that is not an addon can export anything. */
  native?: Native | null
  error?: unknown
}

function tryRequire(target: string, path: string | undefined): Loaded {
  if (path === undefined) return isBundled && isPublished(target) ? requireBundled(target) : {}
  try {
    return { native: requireFile(path) }
  } catch (error) {
    return { error }
  }
}

/**
 * @param places the files that could be the binary
 * @param path the file that was loaded
 */
function diagnose(
  target: string,
  places: string[],
  path: string | undefined,
  loaded: Loaded,
): { why: string; fix?: string } {
  const { native, error } = loaded
  const { code, message = '' } = (error ?? {}) as Partial<NodeJS.ErrnoException>
  const [said = ''] = (path === undefined ? message : message.replaceAll(path, oneLine(path))).split('\n')
  if (code === 'ERR_DLOPEN_DISABLED') return { why: said, fix: allowAddons() }
  if (code === 'ERR_ACCESS_DENIED') return { why: said, fix: allowReading() }
  if ('native' in loaded) {
    const isOf = isBinding(native)
      ? `is of version ${native.VERSION}, and ${packageName} of ${version}`
      : `is not an addon of ${packageName}`
    return { why: `${path ?? 'the bundled binary'} ${isOf}` }
  }
  if (path !== undefined) {
    if (!isAbsolute(path)) return { why: `${path} is not an absolute path` }
    if (DENIED.test(said)) return { why: said, fix: allowAccess(path) }
    return /\bGLIBC_\d/.test(said) ? { why: said, fix: build(target) } : { why: said }
  }
  if (!['linux', 'darwin', 'win32'].includes(process.platform))
    return {
      why: `${packageName} does not support ${process.platform}`,
      fix: `use Linux, macOS or Windows; ${packageName}/postgres needs no binary`,
    }
  if (!isPublished(target)) return { why: `no binary is published for ${target}`, fix: build(target) }
  const denied = places.map(accessError).find((error) => error !== undefined)
  if (denied) return denied
  if (isBundled) return { why: `the program was bundled without ${fileOf(target)}: ${said}` }
  if (isClone()) return { why: `${fileOf(target)} was not built` }
  const damaged = places.find((place) => dirname(place) !== root && exists(dirname(place)))
  if (damaged !== undefined) return { why: `${damaged} is missing`, fix: reinstall(target, true) }
  const reason = 'optional dependencies were omitted, or node_modules was installed for another platform'
  return { why: `${scoped(target)} is not installed: ${reason}` }
}

/** Messages of loaders about a file that may not be read or mapped. */
const DENIED = /permission denied|not permitted|access is denied|failed to map segment(?!.*allocate memory)/i

/** The reason why it is unknown whether a file exists. */
function accessError(path: string): { why: string; fix: string } | undefined {
  try {
    statSync(path)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ERR_ACCESS_DENIED') return { why: `${path}: ${message}`, fix: allowReading() }
    if (code === 'EACCES' || code === 'EPERM') return { why: message, fix: allowAccess(path) }
  }
  return undefined
}

/** Options of Node.js that disable addons. */
function allowAddons(): string {
  const options = 'permission' in process ? 'with --allow-addons beside --permission' : 'without --no-addons'
  return `start Node.js ${options}`
}

const allowReading = (): string =>
  `start Node.js with --allow-fs-read for the directories of ${packageName} and of its binary`

const allowAccess = (path: string): string =>
  `make ${path} readable for this user, on a filesystem that allows execution (noexec and SELinux can forbid it)`

const isClone = (): boolean => !isBundled && exists(join(root, 'Cargo.toml'))

const setTo = (target: string): string =>
  `set NAPI_RS_NATIVE_LIBRARY_PATH to the absolute path of ${fileOf(target)}`

function build(target: string): string {
  const source = repository.url.replace(/^git\+|\.git$/g, '')
  return `build it with npm run build in a clone of ${source}, and ${setTo(target)} there`
}

/** npm does not repair an installed package, because it reads only its `package.json`. */
function reinstall(target: string, isDamaged: boolean): string {
  if (isClone()) return 'npm run build, in this clone'
  if (!isBundled && !('pkg' in process))
    return isDamaged
      ? 'npm ci --include=optional, or remove node_modules and install again, on this machine'
      : 'npm install --include=optional, or what your package manager calls that, on this machine'
  const page = `${homepage.replace('#readme', '')}/blob/v${version}/docs/bundling.md`
  const copy =
    isBundled && bundleDirectory !== undefined ? `copy ${fileOf(target)} to ${bundleDirectory}, or ` : ''
  return `${copy}${setTo(target)}; see ${page}`
}

/** A path can contain line breaks, which separate the parts of the message. */
const oneLine = (text: string): string => text.replaceAll('\n', '\\n')

function nativeError(target: string, path: string, why: string, fix: string, cause: unknown): LockError {
  const { bun, deno, node } = process.versions
  const runtime = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node.js ${node}`
  const libc = target.includes('-musl') ? ' musl' : target.includes('-gnu') ? ` glibc${glibcVersion()}` : ''
  const message = [
    `${packageName} has no native binary that works here: ${process.platform} ${process.arch}${libc}, ${runtime}`,
    `  package: ${scoped(target)}`,
    `  cause: ${oneLine(why)}`,
    `  fix: ${oneLine(fix)}`,
  ].join('\n')
  return lockError('E_LOCK_NATIVE', path, message, { cause })
}
