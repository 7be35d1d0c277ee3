import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, isAbsolute, join, resolve } from 'node:path'
import { homepage, name as packageName, repository, version } from '../package.json'
import { type LockError, lockError } from './shared/errors.js'
import { currentTarget, glibcVersion } from './target.js'

type Native = typeof import('../binding.js')

/** The platforms with a published package. */
const published = [
  'linux-x64-gnu',
  'linux-arm64-gnu',
  'linux-arm-gnueabihf',
  'linux-riscv64-gnu',
  'linux-s390x-gnu',
  'linux-x64-musl',
  'linux-arm64-musl',
  'darwin-arm64',
  'darwin-x64',
  'win32-x64-msvc',
  'win32-arm64-msvc',
] as const
type Published = (typeof published)[number]

// A bundler gives this code a `module` of its own. An ES module has no `__filename`, and webpack may replace it.
const isBundled = typeof __filename === 'undefined' || module.filename !== __filename
const bundleDirectory = typeof __dirname === 'string' && isAbsolute(__dirname) ? __dirname : undefined

/** The directory of the package, or of the bundle. */
const root = isBundled ? (bundleDirectory ?? process.cwd()) : join(__dirname, '..')

/** Takes absolute paths. Not `require`, because a bundler warns that it cannot follow such a call. */
const requireFile = createRequire(isBundled ? process.execPath : __filename)

const scoped = (target: string): string => `@reconcile-lock/${target}`
const fileOf = (target: string): string => `reconcile-lock.${target}.node`

/** Loads the addon: the file that the environment names, or the one of this installation or bundle. */
export function load(): Native {
  const target = currentTarget()
  const override = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  const places = candidates(target)
  const path = override ? resolve(override) : places.find((place) => existsSync(place))
  const { native, error } = tryRequire(target, path)
  if (native?.VERSION === version) return native
  const { why, fix = reinstall(target) } = native
    ? {
        why: `${path ?? 'the bundled binary'} is of version ${native.VERSION ?? 'unknown'}, and ${packageName} of ${version}`,
      }
    : diagnose(target, path, error)
  const [causedBy, remedy] = override
    ? [`NAPI_RS_NATIVE_LIBRARY_PATH is set; ${why}`, 'unset NAPI_RS_NATIVE_LIBRARY_PATH']
    : [why, fix]
  throw nativeError(target, path ?? join(root, fileOf(target)), causedBy, remedy, error)
}

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

function tryRequire(target: string, path: string | undefined): { native?: Native; error?: unknown } {
  if (path === undefined) return isBundled && isPublished(target) ? requireBundled(target) : {}
  try {
    return { native: requireFile(path) }
  } catch (error) {
    return { error }
  }
}

const isPublished = (target: string): target is Published => (published as readonly string[]).includes(target)

/** webpack replaces it. */
declare const __webpack_require__: unknown

/** Names each package in full for bundlers and file tracers; inside a `try` they accept a missing package. */
function requireBundled(target: Published): { native?: Native; error?: unknown } {
  try {
    // webpack would warn about each package that is not installed. It takes those that match this name instead.
    if (typeof __webpack_require__ === 'function')
      return { native: require(`@reconcile-lock/${target}/reconcile-lock.${target}.node`) }
    switch (target) {
      case 'linux-x64-gnu':
        return { native: require('@reconcile-lock/linux-x64-gnu') }
      case 'linux-arm64-gnu':
        return { native: require('@reconcile-lock/linux-arm64-gnu') }
      case 'linux-arm-gnueabihf':
        return { native: require('@reconcile-lock/linux-arm-gnueabihf') }
      case 'linux-riscv64-gnu':
        return { native: require('@reconcile-lock/linux-riscv64-gnu') }
      case 'linux-s390x-gnu':
        return { native: require('@reconcile-lock/linux-s390x-gnu') }
      case 'linux-x64-musl':
        return { native: require('@reconcile-lock/linux-x64-musl') }
      case 'linux-arm64-musl':
        return { native: require('@reconcile-lock/linux-arm64-musl') }
      case 'darwin-arm64':
        return { native: require('@reconcile-lock/darwin-arm64') }
      case 'darwin-x64':
        return { native: require('@reconcile-lock/darwin-x64') }
      case 'win32-x64-msvc':
        return { native: require('@reconcile-lock/win32-x64-msvc') }
      case 'win32-arm64-msvc':
        return { native: require('@reconcile-lock/win32-arm64-msvc') }
    }
  } catch (error) {
    return { error }
  }
}

/** @param error from `require`, if it was called */
function diagnose(target: string, path: string | undefined, error: unknown): { why: string; fix?: string } {
  const { code, message = '' } = (error ?? {}) as Partial<NodeJS.ErrnoException>
  const [said = ''] = message.split('\n')
  if (code === 'ERR_DLOPEN_DISABLED') return { why: said, fix: allowAddons() }
  if (path !== undefined) return { why: said }
  if (!isPublished(target)) {
    const source = repository.url.replace(/^git\+|\.git$/g, '')
    return {
      why: `no binary is published for ${target}`,
      fix: `build it with npm run build in a clone of ${source}`,
    }
  }
  if (isBundled) return { why: `the program was bundled without ${fileOf(target)}: ${said}` }
  if (isClone()) return { why: `${fileOf(target)} was not built` }
  const reason = 'optional dependencies were omitted, or node_modules was installed for another platform'
  return { why: `${scoped(target)} is not installed: ${reason}` }
}

/** Options of Node.js that disable addons. */
function allowAddons(): string {
  const options = 'permission' in process ? 'with --allow-addons beside --permission' : 'without --no-addons'
  return `start Node.js ${options}`
}

const isClone = (): boolean => !isBundled && existsSync(join(root, 'Cargo.toml'))

function reinstall(target: string): string {
  if (isClone()) return 'npm run build, in this clone'
  if (!isBundled && !('pkg' in process))
    return 'npm install --include=optional, or what your package manager calls that, on this machine'
  const page = `${homepage.replace('#readme', '')}/blob/v${version}/docs/bundling.md`
  const copy =
    isBundled && bundleDirectory !== undefined ? `copy ${fileOf(target)} to ${bundleDirectory}, or ` : ''
  return `${copy}set NAPI_RS_NATIVE_LIBRARY_PATH to the path of ${fileOf(target)}; see ${page}`
}

function nativeError(target: string, path: string, why: string, fix: string, cause: unknown): LockError {
  const { bun, deno, node } = process.versions
  const runtime = bun ? `Bun ${bun}` : deno ? `Deno ${deno}` : `Node.js ${node}`
  const libc = target.includes('-musl') ? ' musl' : target.includes('-gnu') ? ` glibc${glibcVersion()}` : ''
  const message = [
    `${packageName} has no native binary that works here: ${process.platform} ${process.arch}${libc}, ${runtime}`,
    `  package: ${scoped(target)}`,
    `  cause: ${why}`,
    `  fix: ${fix}`,
  ].join('\n')
  return lockError('E_LOCK_NATIVE', path, message, { cause })
}
