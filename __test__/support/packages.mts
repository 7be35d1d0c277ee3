import { cpSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { directory, isWindows } from './directory.mjs'

export type Package = typeof import('reconcile-lock')

/** The directory of the package under test. */
export const root = fileURLToPath(new URL('../../..', import.meta.url))

const require = createRequire(import.meta.url)

/** Copies the published files to a new directory, as if two packages depended on two versions. */
export function copied(t: TestContext): string {
  // Windows does not remove the file of a loaded addon.
  const parent = isWindows ? mkdtempSync(join(tmpdir(), 'reconcile-lock-')) : directory(t)
  const home = join(parent, 'reconcile-lock')
  copyPackage(home)
  return home
}

/** Copies the published files to a directory. */
export function copyPackage(home: string): void {
  const { files }: { files: string[] } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const published = files.map((name) => new RegExp(`^${name.replace('/', '').replaceAll('*', '.+')}$`))
  for (const name of readdirSync(root)) {
    if (name === 'package.json' || published.some((pattern) => pattern.test(name)))
      cpSync(join(root, name), join(home, name), { recursive: true })
  }
}

export const loaded = (home: string): Package => require(home)

/** Loads the package of `root` again. */
export function loadedAgain(): Package {
  const kept = Object.entries(require.cache).filter(([path]) => path.startsWith(root))
  for (const [path] of kept) delete require.cache[path]
  try {
    return require(root)
  } finally {
    for (const [path, module] of kept) require.cache[path] = module
  }
}
