import { cpSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { directory } from './directory.mjs'

export type Package = typeof import('reconcile-lock')

/** Where the package that is tested lies. */
export const root = fileURLToPath(new URL('../../..', import.meta.url))

const require = createRequire(import.meta.url)

/** What is published, in a directory of its own, as where two packages depend on two versions. */
export function copied(t: TestContext): string {
  const home = join(directory(t), 'reconcile-lock')
  copyPackage(home)
  return home
}

/** Copies what is published to a directory. */
export function copyPackage(home: string): void {
  const { files }: { files: string[] } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const published = files.map((name) => new RegExp(`^${name.replace('/', '').replaceAll('*', '.+')}$`))
  for (const name of readdirSync(root)) {
    if (name === 'package.json' || published.some((pattern) => pattern.test(name)))
      cpSync(join(root, name), join(home, name), { recursive: true })
  }
}

export const loaded = (home: string): Package => require(home)

/** The package of `root`, loaded once more. */
export function loadedAgain(): Package {
  const kept = Object.entries(require.cache).filter(([path]) => path.startsWith(root))
  for (const [path] of kept) delete require.cache[path]
  try {
    return require(root)
  } finally {
    for (const [path, module] of kept) require.cache[path] = module
  }
}
