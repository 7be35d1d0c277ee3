// Each test is a row of the second table of docs/bundling.md.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import * as esbuild from 'esbuild'
import { directory } from '../support/directory.mjs'
import { excludes, project } from '../support/installed-program.mjs'
import { fileOf, here, installedBinary } from '../support/release.mjs'
import { build, bun, file, node, toolTest } from './programs.mjs'

toolTest('bun build --compile', async (t) => {
  const home = project(t)
  const out = join(directory(t), 'app')
  execFileSync(bun.execPath ?? '', ['build', 'app.js', '--compile', '--outfile', out], {
    cwd: home,
    stdio: 'pipe',
  })
  await excludes(t, out, [])
})

/** Injects `app.cjs` of a project into a copy of Node.js. */
const makers: Record<string, (home: string, app: string) => void> = {
  'single executable application of Node.js'(home, app) {
    const settings = { main: 'app.cjs', output: 'app.blob', disableExperimentalSEAWarning: true }
    writeFileSync(join(home, 'sea.json'), JSON.stringify(settings))
    build(home, ['--experimental-sea-config', 'sea.json'])
    copyFileSync(node.execPath ?? '', app)
    const fuse = ['--sentinel-fuse', 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2']
    build(home, [file('postject/dist/cli.js'), app, 'NODE_SEA_BLOB', 'app.blob', ...fuse])
  },
  // Its command line would download this Node.js.
  '@yao-pkg/pkg --sea'(home, app) {
    const target = { platform: 'linux', arch: 'x64', nodeRange: 'node24', output: app }
    const options = JSON.stringify({ targets: [target], nodePath: node.execPath })
    const program = `require(process.argv[1]).default('app.cjs', ${options})`
    const PATH = `${dirname(node.execPath ?? '')}:${process.env.PATH}`
    // `npx` finds postject in a directory above the temporary one.
    const env = { PATH, TMPDIR: file('..'), npm_config_offline: 'true' }
    build(home, ['-e', program, file('@yao-pkg/pkg/lib-es5/sea.js')], env)
  },
}
for (const [tool, make] of Object.entries(makers))
  toolTest(tool, async (t) => {
    const home = project(t)
    await esbuild.build({
      absWorkingDir: home,
      entryPoints: ['app.js'],
      outfile: join(home, 'app.cjs'),
      bundle: true,
      platform: 'node',
      external: ['@reconcile-lock/*'],
    })
    const out = directory(t)
    const app = join(out, 'app')
    make(home, app)
    const run = () => execFileSync(app, [join(out, 'lock')], { encoding: 'utf8', stdio: 'pipe' })
    assert.throws(run, ({ stderr }) => {
      assert.match(
        stderr,
        new RegExp(`fix: copy ${fileOf(here)} to ${out}, or set .*docs/bundling\\.md$`, 'm'),
      )
      assert.doesNotMatch(stderr, /npm (rebuild|install)/)
      return true
    })
    const binary = installedBinary(home)
    await excludes(t, app, [], { env: { NAPI_RS_NATIVE_LIBRARY_PATH: binary } })
    copyFileSync(binary, join(out, fileOf(here)))
    await excludes(t, app, [])
  })
