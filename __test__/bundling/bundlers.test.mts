// Each test is a row of the first table of docs/bundling.md.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import * as esbuild from 'esbuild'
import { acquireLock } from 'reconcile-lock'
import * as vite from 'vite'
import { directory } from '../support/directory.mjs'
import { excludes, project } from '../support/installed-program.mjs'
import { freePort } from '../support/port.mjs'
import { fileOf, here, installedBinary, platforms } from '../support/release.mjs'
import { build, file, node, toolTest } from './programs.mjs'

const NAME = 'reconcile-lock'
const execPath = node.execPath ?? ''

/** Asserts that a bundle requires the package instead of containing it. */
function isExternal(path: string): void {
  assert.match(readFileSync(path, 'utf8'), /(from|require\() ?["']reconcile-lock["']/)
}

const options = (home: string): esbuild.BuildOptions & { outfile: string } => ({
  absWorkingDir: home,
  entryPoints: ['app.js'],
  outfile: join(home, 'out/app.cjs'),
  bundle: true,
  platform: 'node',
  logLevel: 'silent',
})

for (const [format, extension] of [
  ['esm', 'mjs'],
  ['cjs', 'cjs'],
] as const) {
  toolTest(`esbuild, external, ${format}`, async (t) => {
    const home = project(t)
    const outfile = join(home, `app.${extension}`)
    await esbuild.build({ ...options(home), outfile, format, external: [NAME] })
    isExternal(outfile)
    await excludes(t, execPath, [outfile])
  })
}

toolTest('esbuild, --loader:.node=copy', async (t) => {
  const home = project(t)
  const { warnings } = await esbuild.build({ ...options(home), loader: { '.node': 'copy' } })
  assert.deepEqual(warnings, [])
  const out = join(directory(t), 'out')
  renameSync(join(home, 'out'), out)
  await excludes(t, execPath, [join(out, 'app.cjs')])
})

toolTest('esbuild, --loader:.node=copy, esm, with a banner', async (t) => {
  const home = project(t)
  const js = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)"
  const outfile = join(home, 'out/app.mjs')
  const more = { outfile, format: 'esm', banner: { js }, loader: { '.node': 'copy' } } as const
  await esbuild.build({ ...options(home), ...more })
  const out = join(directory(t), 'out')
  renameSync(join(home, 'out'), out)
  await excludes(t, execPath, [join(out, 'app.mjs')])
})

for (const publicPath of ['', '/static', 'https://localhost/files/'])
  toolTest(
    `esbuild, --loader:.node=file, loads the renamed binary: ${publicPath || 'relative'}`,
    async (t) => {
      const home = project(t)
      await esbuild.build({ ...options(home), loader: { '.node': 'file' }, publicPath })
      const out = join(directory(t), 'out')
      renameSync(join(home, 'out'), out)
      await excludes(t, execPath, [join(out, 'app.cjs')])
      for (const name of readdirSync(out)) if (name.endsWith('.node')) rmSync(join(out, name))
      const run = () => build(out, ['app.cjs', join(out, 'lock')])
      assert.throws(run, ({ stderr }) => {
        const cause =
          /cause: the program was bundled without reconcile-lock\.linux-x64-gnu\.node: \S+\.node does not exist$/m
        assert.match(stderr, cause)
        return true
      })
    },
  )

toolTest('esbuild without either fails at build time', async (t) => {
  await assert.rejects(esbuild.build(options(project(t))), /No loader is configured for "\.node" files/)
})

toolTest('a bundle without its binary names file, directory and page', async (t) => {
  const home = project(t)
  const { outfile } = options(home)
  await esbuild.build({ ...options(home), external: ['@reconcile-lock/*'] })
  const out = directory(t)
  copyFileSync(outfile, join(out, 'app.cjs'))
  const run = () => build(out, ['app.cjs', join(out, 'lock')])
  assert.throws(run, ({ stderr }) => {
    assert.match(stderr, /cause: the program was bundled without reconcile-lock\.linux-x64-gnu\.node: /)
    const [, fix = ''] = /^ {2}fix: (.*)$/m.exec(stderr) ?? []
    const page = 'https://github.com/reconcile-lock/reconcile-lock/blob/v\\S+/docs/bundling\\.md'
    assert.match(
      fix,
      new RegExp(`^copy ${fileOf(here)} to ${out}, or set NAPI_RS_NATIVE_LIBRARY_PATH .*; see ${page}$`),
    )
    return true
  })
  const binary = installedBinary(home)
  await excludes(t, execPath, [join(out, 'app.cjs')], { env: { NAPI_RS_NATIVE_LIBRARY_PATH: binary } })
  copyFileSync(binary, join(out, fileOf(here)))
  await excludes(t, execPath, [join(out, 'app.cjs')])
})

toolTest('rollup, external', async (t) => {
  const home = project(t)
  build(home, [file('rollup/dist/bin/rollup'), 'app.js', '--file', 'out.mjs', '--external', NAME, '--silent'])
  isExternal(join(home, 'out.mjs'))
  await excludes(t, execPath, [join(home, 'out.mjs')])
})

for (const external of [undefined, [NAME]]) {
  toolTest(`Vite, build.ssr, external ${external ? 'by setting' : 'by default'}`, async (t) => {
    const home = project(t)
    const settings = external ? { ssr: { external } } : {}
    const common = { root: home, configFile: false, logLevel: 'silent' } as const
    await vite.build({ ...common, build: { ssr: 'app.js', outDir: 'out' }, ...settings })
    isExternal(join(home, 'out/app.js'))
    await excludes(t, execPath, [join(home, 'out/app.js')])
  })
}

/** Runs webpack and asserts that it reports nothing. */
function webpack(home: string, settings: string): void {
  const program = `
    const webpack = require(${JSON.stringify(file('webpack'))})
    const common = { mode: 'production', target: 'node', entry: './app.js', output: { filename: 'app.cjs', path: __dirname + '/out' } }
    webpack({ ...common, ${settings} }, (error, stats) =>
      console.log(error ?? stats.toString({ all: false, errors: true, warnings: true })))`
  writeFileSync(join(home, 'webpack.cjs'), program)
  assert.equal(build(home, ['webpack.cjs']).trim(), '')
}

toolTest('webpack, external', async (t) => {
  const home = project(t)
  webpack(home, `externals: { '${NAME}': 'commonjs ${NAME}' }`)
  isExternal(join(home, 'out/app.cjs'))
  await excludes(t, execPath, [join(home, 'out/app.cjs')])
})

for (const generator of ['', `, generator: { filename: '[name][ext]' }`]) {
  toolTest(`webpack, asset/resource${generator && ', [name][ext]'}, prints no warning`, async (t) => {
    const home = project(t)
    webpack(home, `module: { rules: [{ test: /\\.node$/, type: 'asset/resource'${generator} }] }`)
    const out = join(directory(t), 'out')
    renameSync(join(home, 'out'), out)
    await excludes(t, execPath, [join(out, 'app.cjs')])
  })
}

toolTest('webpack, asset/resource, esm', async (t) => {
  const home = project(t)
  const output = `{ module: true, filename: 'app.mjs', path: __dirname + '/out', assetModuleFilename: 'files/[hash][ext]' }`
  const rules = `[{ test: /\\.node$/, type: 'asset/resource' }]`
  webpack(home, `experiments: { outputModule: true }, output: ${output}, module: { rules: ${rules} }`)
  const out = join(directory(t), 'out')
  renameSync(join(home, 'out'), out)
  await excludes(t, execPath, [join(out, 'app.mjs')])
})

toolTest('tsdown', async (t) => {
  const home = project(t)
  const args = ['app.js', '--no-config', '--out-dir', 'out', '--format', 'esm', '--platform', 'node']
  build(home, [file('tsdown/dist/run.mjs'), ...args])
  const out = join(directory(t), 'out')
  renameSync(join(home, 'out'), out)
  const [name = ''] = readdirSync(out).filter((each) => each.startsWith('app.'))
  await excludes(t, execPath, [join(out, name)])
})

toolTest('tsup, external by default', async (t) => {
  const home = project(t)
  const about = { name: 'app', type: 'module', dependencies: { [NAME]: '*' } }
  writeFileSync(join(home, 'package.json'), JSON.stringify(about))
  build(home, [
    file('tsup/dist/cli-default.js'),
    'app.js',
    '--no-config',
    '--out-dir',
    'out',
    '--format',
    'esm',
  ])
  isExternal(join(home, 'out/app.js'))
  await excludes(t, execPath, [join(home, 'out/app.js')])
})

toolTest('@vercel/ncc', async (t) => {
  const home = project(t)
  const printed = build(home, [file('@vercel/ncc/dist/ncc/cli.js'), 'build', 'app.js', '--out', 'out'])
  assert.doesNotMatch(printed, /warning/i)
  const out = join(directory(t), 'out')
  renameSync(join(home, 'out'), out)
  const [name = ''] = readdirSync(out).filter((each) => each.startsWith('index.'))
  await excludes(t, execPath, [join(out, name)])
})

toolTest('the files that @vercel/nft traces', async (t) => {
  const home = project(t)
  const nft = await import(pathToFileURL(file('@vercel/nft/out/index.js')).href)
  const { fileList, warnings } = await nft.nodeFileTrace([join(home, 'app.js')], { base: home })
  const out = directory(t)
  for (const path of fileList) cpSync(join(home, path), join(out, path))
  await excludes(t, execPath, [join(out, 'app.js')])
  // One for each package of another platform.
  assert.equal(warnings.size, platforms.length - 1)
})

toolTest('Next.js, serverExternalPackages, standalone', async (t) => {
  // Turbopack takes no packages from outside its root.
  const root = dirname(file(''))
  const home = project(t, root)
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name: 'app', private: true }))
  const settings = { serverExternalPackages: [NAME], output: 'standalone', turbopack: { root } }
  writeFileSync(join(home, 'next.config.js'), `module.exports = ${JSON.stringify(settings)}`)
  mkdirSync(join(home, 'app/lock'), { recursive: true })
  const layout = 'export default ({ children }) => <html><body>{children}</body></html>'
  writeFileSync(join(home, 'app/layout.js'), layout)
  const route = `import { acquireLock } from '${NAME}'
    export const dynamic = 'force-dynamic'
    export async function GET() {
      try {
        const lock = await acquireLock({ file: process.env.LOCK_FILE })
        await lock.release()
        return new Response('acquired')
      } catch (error) {
        return new Response(error.code)
      }
    }`
  writeFileSync(join(home, 'app/lock/route.js'), route)
  build(home, [file('next/dist/bin/next'), 'build'], { NEXT_TELEMETRY_DISABLED: '1' })
  const out = directory(t)
  cpSync(join(home, '.next/standalone'), out, { recursive: true, verbatimSymlinks: true })
  const port = await freePort()
  const LOCK_FILE = join(out, 'lock')
  const env = { ...process.env, LOCK_FILE, PORT: `${port}`, HOSTNAME: '127.0.0.1' }
  const server = spawn(execPath, [join(out, relative(root, home), 'server.js')], { env, stdio: 'pipe' })
  t.after(() => server.kill())
  for await (const line of createInterface(server.stdout)) if (line.includes('Ready')) break
  const answer = async () => (await fetch(`http://127.0.0.1:${port}/lock`)).text()
  const lock = await acquireLock({ file: LOCK_FILE })
  assert.equal(await answer(), 'E_LOCK_CONTENTION')
  await lock.release()
  assert.equal(await answer(), 'acquired')
})
