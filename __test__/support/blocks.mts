import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { directory } from './directory.mjs'
import { root } from './packages.mjs'

/** The blocks of TypeScript, or another language, in a document of this project. */
export function blocksOf(path: string, language = 'ts'): string[] {
  const text = readFileSync(join(root, path), 'utf8')
  return [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].flatMap(([, word, code = '']) =>
    word === language ? [code] : [],
  )
}

/** The errors of the compiler in a project that has installed the package; `files` are additional modules. */
export function complaints(t: TestContext, blocks: string[], files: Record<string, string> = {}): string {
  const project = directory(t)
  mkdirSync(join(project, 'node_modules'))
  symlinkSync(root, join(project, 'node_modules/reconcile-lock'))
  for (const name of ['@types', 'undici-types'])
    symlinkSync(join(root, 'node_modules', name), join(project, 'node_modules', name))
  const modules = Object.fromEntries(blocks.map((code, index) => [`${index}.mts`, code]))
  for (const [name, code] of Object.entries({ ...files, ...modules }))
    writeFileSync(join(project, name), code)
  const compilerOptions = {
    module: 'nodenext',
    target: 'es2022',
    lib: ['es2023', 'esnext.disposable'],
    strict: true,
    noEmit: true,
    types: ['node'],
  }
  writeFileSync(
    join(project, 'tsconfig.json'),
    JSON.stringify({ compilerOptions, files: Object.keys(modules) }),
  )
  const compiler = join(root, 'node_modules/typescript/bin/tsc')
  const { status, stdout } = spawnSync(process.execPath, [compiler, '-p', project], { encoding: 'utf8' })
  return status === 0 ? '' : stdout || `exit code ${status}`
}
