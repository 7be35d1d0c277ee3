// For processes of another user: the checkout, or Node.js, may be below a directory that only its owner can enter.
import { execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { copyPackage, root } from './packages.mjs'

let home: string | undefined

/** The directory of a copy of the package with its compiled tests, which every user can read. */
function publicHome(): string {
  if (home !== undefined) return home
  const copy = mkdtempSync(join(tmpdir(), 'reconcile-lock-public-'))
  home = copy
  process.on('exit', () => rmSync(copy, { recursive: true, force: true }))
  copyPackage(copy)
  for (const folder of ['legacy', 'support']) {
    const tests = join('build/__test__', folder)
    cpSync(join(root, tests), join(copy, tests), { recursive: true })
  }
  execFileSync('chmod', ['-R', 'a+rX', copy])
  return copy
}

/** The path at which every user can read a file of the package or of the compiled tests. */
export const publicPath = (path: string): string => join(publicHome(), relative(root, path))

/** The executable of this runtime, at a path where every user can start it. */
export function publicExecPath(): string {
  if (isPublic(process.execPath)) return process.execPath
  const copy = join(publicHome(), basename(process.execPath))
  if (statSync(copy, { throwIfNoEntry: false }) === undefined) copyFileSync(process.execPath, copy)
  return copy
}

/** Whether every user can enter all directories above a file. */
function isPublic(path: string): boolean {
  const parent = dirname(path)
  if ((statSync(parent).mode & 0o001) === 0) return false
  return parent === dirname(parent) || isPublic(parent)
}
