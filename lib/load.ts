import { createRequire } from 'node:module'
import { basename, dirname, isAbsolute, join, resolve } from 'node:path'
import { homepage, name as packageName, repository, version } from '../package.json'
import { fileOf, isPublished, type Native, type Published, requireBundled, scoped } from './published.js'
import { type LockError, lockError } from './shared/errors.js'
import { builtin } from './shared/globals.js'
import { currentTarget, glibcVersion } from './target.js'

const { existsSync, statSync } = builtin('node:fs', () => require('node:fs') as typeof import('node:fs'))

// A bundler gives this code a `module` of its own. An ES module has no `__filename`, and webpack may replace it.
const isBundled = typeof __filename === 'undefined' || module.filename !== __filename
const bundleDirectory = typeof __dirname === 'string' && isAbsolute(__dirname) ? __dirname : undefined

/** The directory of the package, or of the bundle. */
const root = isBundled ? (bundleDirectory ?? process.cwd()) : join(__dirname, '..')

/** Takes absolute paths. Not `require`, because a bundler warns that it cannot follow such a call. */
const requireFile = createRequire(isBundled ? process.execPath : __filename)

interface Loaded {
  path?: string
  /** A file that is not an addon can export anything. */
  native?: Native | null
  error?: unknown
}

/** Loads the addon: the file that the environment names, or the one of this installation or bundle. */
export function load(): Native {
  const target = currentTarget()
  const override = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  const loaded = override ? requireNamed(override) : search(target)
  const { path = join(root, fileOf(target)), native, error } = loaded
  if (isBinding(native) && native.VERSION === version) return native
  const { why, fix } = diagnose(target, loaded)
  const [cause, remedy] = override
    ? [`NAPI_RS_NATIVE_LIBRARY_PATH is set; ${why}`, `unset NAPI_RS_NATIVE_LIBRARY_PATH, or ${setTo(target)}`]
    : [why, fix ?? reinstall(target, loaded.path !== undefined)]
  throw nativeError(target, resolve(path), cause, (override && fix) || remedy, error)
}

/** A program can set the variable to another addon or to a module. */
const isBinding = (native: Native | null | undefined): native is Native =>
  typeof native?.acquire === 'function'

function requireNamed(path: string): Loaded {
  if (!isAbsolute(path)) return { path, error: new Error(`${path} is not an absolute path`) }
  try {
    return { path, native: requireFile(path) }
  } catch (error) {
    return { path, error }
  }
}

/** Loads the first file of the candidates. One that may not be read is not skipped. */
function search(target: string): Loaded {
  let damaged: string | undefined
  for (const path of candidates(target)) {
    try {
      if (statSync(path, { throwIfNoEntry: false })) return requireNamed(path)
      if (dirname(path) !== root && existsSync(dirname(path))) damaged ??= path
    } catch (error) {
      if (codeOf(error) !== 'ENOTDIR') return { path, error }
    }
  }
  if (damaged !== undefined) return { path: damaged, error: new Error(`${damaged} is missing`) }
  return isBundled && isPublished(target) ? bundled(target) : {}
}

/** Some bundlers copy the binary, and replace the module by the path of its copy from the bundle, or by a URL. */
function bundled(target: Published): Loaded {
  const loaded = requireBundled(target)
  const exported: unknown = loaded.native
  if (typeof exported !== 'string' || bundleDirectory === undefined) return loaded
  try {
    const { fileURLToPath } = require('node:url') as typeof import('node:url')
    const named = exported.startsWith('file:') ? fileURLToPath(exported) : resolve(bundleDirectory, exported)
    // A bundler can name another directory for all files, such as the URL of a server.
    const files = [named, join(bundleDirectory, basename(named))].filter((path) => path.endsWith('.node'))
    const path = files.find((path) => existsSync(path))
    return path === undefined ? { error: new Error(`${exported} does not exist`) } : requireNamed(path)
  } catch (error) {
    return { error }
  }
}

/**
 * The files that can be the binary. Node.js would search `node_modules` of every parent directory, but an unrelated
 * parent such as `/tmp` may belong to another user.
 */
function* candidates(target: string): Generator<string> {
  const file = fileOf(target)
  if (isBundled) {
    if (bundleDirectory !== undefined) yield join(bundleDirectory, file)
    return
  }
  const installed = pnpPath(target)
  if (installed !== undefined) return yield installed
  yield join(root, file)
  const name = scoped(target)
  yield join(root, 'node_modules', name, file)
  for (const path of parents(root)) if (basename(path) === 'node_modules') yield join(path, name, file)
  // The caches of Deno (`NAME/VERSION`) and Bun (`NAME@VERSION…`) need no `node_modules`.
  const [parent, entry] = [dirname(root), basename(root)]
  if (entry === version) yield join(dirname(parent), name, entry, file)
  if (entry.startsWith(`${packageName}@${version}`))
    yield join(parent, entry.replace(packageName, name), file)
  for (const path of parents(root).filter(isProject)) yield join(path, 'node_modules', name, file)
}

/**
 * Whether a directory contains the project of this package and is one, such as the root of its workspace. In a directory
 * with the sticky bit, such as `/tmp`, another user can create that project. A user who can do so in another directory
 * can also replace this package. On Windows the mode does not show that.
 */
const isProject = (path: string): boolean =>
  process.platform !== 'win32' &&
  existsSync(join(path, 'package.json')) &&
  (statSync(path).mode & 0o1000) === 0

/** The path in an installation of Yarn Plug'n'Play, which has no `node_modules` and declares every dependency. */
function pnpPath(target: string): string | undefined {
  const { findPnpApi } = require('node:module') as {
    findPnpApi?(path: string): { resolveRequest(name: string, from: string): string }
  }
  try {
    return findPnpApi?.(__filename)?.resolveRequest(scoped(target), __filename)
  } catch {
    return undefined
  }
}

function parents(path: string): string[] {
  const parent = dirname(path)
  return parent === path ? [] : [parent, ...parents(parent)]
}

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code

/** Messages about a file that may not be read or mapped. */
const DENIED = /permission denied|not permitted|access is denied|failed to map segment(?!.*allocate memory)/i

function diagnose(target: string, { path, native, error }: Loaded): { why: string; fix?: string } {
  // In Jest, errors of the loader are of another realm.
  const message = String((error as Error | null | undefined)?.message ?? '')
  const [said = ''] = (path === undefined ? message : message.replaceAll(path, oneLine(path))).split('\n')
  const code = codeOf(error)
  if (code === 'ERR_DLOPEN_DISABLED') {
    const options =
      'permission' in process ? 'with --allow-addons beside --permission' : 'without --no-addons'
    return { why: said, fix: `start Node.js ${options}` }
  }
  if (code === 'ERR_ACCESS_DENIED') {
    const where = `the directories of ${packageName} and of its binary`
    return { why: `${path}: ${said}`, fix: `start Node.js with --allow-fs-read for ${where}` }
  }
  if (path !== undefined && DENIED.test(said)) {
    const where = 'on a filesystem that allows execution (noexec and SELinux can forbid it)'
    return { why: said, fix: `make ${path} readable for this user, ${where}` }
  }
  if (/\bGLIBC_\d/.test(said)) return { why: said, fix: build(target) }
  if (isBinding(native))
    return {
      why: `${path ?? 'the bundled binary'} is of version ${native.VERSION}, and ${packageName} of ${version}`,
    }
  if (path !== undefined) return { why: said || `${path} is not an addon of ${packageName}` }
  if (!['linux', 'darwin', 'win32'].includes(process.platform))
    return {
      why: `${packageName} does not support ${process.platform}`,
      fix: `use Linux, macOS or Windows; ${packageName}/postgres needs no binary`,
    }
  if (!isPublished(target)) return { why: `no binary is published for ${target}`, fix: build(target) }
  if (isBundled) {
    const why = `the program was bundled without ${fileOf(target)}`
    return { why: said ? `${why}: ${said}` : why }
  }
  if (isClone()) return { why: `${fileOf(target)} was not built` }
  const reason = 'optional dependencies were omitted, or node_modules was installed for another platform'
  return { why: `${scoped(target)} is not installed: ${reason}` }
}

const isClone = (): boolean => !isBundled && existsSync(join(root, 'Cargo.toml'))

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
