import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import * as esbuild from 'esbuild'
import * as vite from 'vite'
import { directory, MESSAGE } from '../support/directory.mjs'
import { copied } from '../support/packages.mjs'
import { fileOf, here } from '../support/release.mjs'

const NAME = 'reconcile-lock'

/** A program in TypeScript, in a project that has installed the package. */
function project(t: TestContext): string {
  const home = directory(t)
  mkdirSync(join(home, 'node_modules'))
  cpSync(copied(t), join(home, 'node_modules', NAME), { recursive: true })
  writeFileSync(
    join(home, 'app.ts'),
    `import { acquireLock, LockError } from '${NAME}'
async function main(): Promise<void> {
  const lock = await acquireLock()
  const refused: unknown = await acquireLock().catch((error: unknown) => error)
  await lock.release()
  console.log(refused instanceof LockError, (refused as Error).message)
}
void main()\n`,
  )
  return home
}

function works(home: string, bundle: string): void {
  const text = readFileSync(join(home, bundle), 'utf8')
  assert.match(text, /(from|require\() ?["']reconcile-lock["']/, 'the package was bundled')
  const said = execFileSync(process.execPath, [bundle], { cwd: home, encoding: 'utf8' })
  assert.equal(said, `true ${MESSAGE}\n`)
}

for (const [format, extension] of [
  ['esm', 'mjs'],
  ['cjs', 'cjs'],
] as const) {
  test(`an esbuild ${format} bundle with the package external acquires`, async (t) => {
    const home = project(t)
    await esbuild.build({
      absWorkingDir: home,
      entryPoints: ['app.ts'],
      outfile: `app.${extension}`,
      bundle: true,
      platform: 'node',
      format,
      external: [NAME],
      logLevel: 'silent',
    })
    works(home, `app.${extension}`)
  })
}

test('esbuild without `external` fails at build time', async (t) => {
  const home = project(t)
  const platform = join(home, 'node_modules/@reconcile-lock', here)
  mkdirSync(platform, { recursive: true })
  writeFileSync(join(platform, 'package.json'), JSON.stringify({ main: fileOf(here) }))
  renameSync(join(home, 'node_modules', NAME, fileOf(here)), join(platform, fileOf(here)))
  const bundled = esbuild.build({
    absWorkingDir: home,
    entryPoints: ['app.ts'],
    outfile: 'app.mjs',
    bundle: true,
    platform: 'node',
    logLevel: 'silent',
  })
  await assert.rejects(bundled, /No loader is configured for "\.node" files/)
})

for (const external of [undefined, [NAME]]) {
  const how = external === undefined ? 'by default' : 'explicitly'
  test(`a Vite server build keeps the package external ${how}`, async (t) => {
    const home = project(t)
    writeFileSync(join(home, 'package.json'), JSON.stringify({ type: 'module' }))
    await vite.build({
      root: home,
      configFile: false,
      logLevel: 'silent',
      build: { ssr: 'app.ts', outDir: 'dist' },
      ...(external ? { ssr: { external } } : {}),
    })
    works(home, 'dist/app.js')
  })
}
