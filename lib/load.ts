import { basename, dirname, isAbsolute, join, resolve } from 'node:path'
import { name as packageName, version } from '../package.json'
import { codeOf, loadError } from './load-error.js'
import { bundleDirectory, isBundled, root } from './location.js'
import {
  fileOf,
  isBinding,
  isPublished,
  type Loaded,
  type Native,
  type Published,
  requireBundled,
  scoped,
} from './published.js'
import { builtin } from './shared/globals.js'
import { currentTarget } from './target.js'

const { existsSync, statSync } = builtin('node:fs', () => require('node:fs') as typeof import('node:fs'))

/** Loads the addon: the file that the environment names, or the one of this installation or bundle. */
export function load(): Native {
  const target = currentTarget()
  const override = process.env.NAPI_RS_NATIVE_LIBRARY_PATH
  const loaded = override ? requireNamed(override) : search(target)
  if (isBinding(loaded.native) && loaded.native.VERSION === version) return loaded.native
  throw loadError(target, loaded, override)
}

function requireNamed(path: string): Loaded {
  if (!isAbsolute(path)) return { path, error: new Error(`${path} is not an absolute path`) }
  try {
    return { path, native: requireFile(path) as Native }
  } catch (error) {
    return { path, error }
  }
}

/** Not `require(path)`, because a bundler warns that it cannot follow such a call. */
function requireFile(path: string): unknown {
  if (isBundled) {
    const { createRequire } = require('node:module') as typeof import('node:module')
    return createRequire(process.execPath)(path)
  }
  const { require: requireModule } = module
  return requireModule.call(module, path)
}

/** Loads the first file of the candidates. One that may not be read is not skipped. */
function search(target: string): Loaded {
  let damaged: string | undefined
  for (const path of candidates(target)) {
    try {
      // The first result of `statSync` takes 0.1 ms to make; its error says what `existsSync` hides.
      if (existsSync(path) || statSync(path, { throwIfNoEntry: false })) return requireNamed(path)
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
  if (process.versions.pnp === undefined) return undefined
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
