import { isAbsolute, join } from 'node:path'

// A bundler gives this code a `module` of its own. An ES module has no `__filename`, and webpack may replace it.
export const isBundled = typeof __filename === 'undefined' || module.filename !== __filename
export const bundleDirectory = typeof __dirname === 'string' && isAbsolute(__dirname) ? __dirname : undefined

/** The directory of the package, or of the bundle. */
export const root = isBundled ? (bundleDirectory ?? process.cwd()) : join(__dirname, '..')
