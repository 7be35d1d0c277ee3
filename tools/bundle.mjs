// Bundles `lib/` into the given directory: a file for each entry point, and `shared.js`, which all of them require, so
// that a program has one `LockError`.
import { join, resolve } from 'node:path'
import { build } from 'esbuild'
import { root } from './steps.mjs'

const lib = join(root, 'lib')
const outputs = {
  [join(lib, 'shared/index.ts')]: 'shared',
  [join(lib, 'index.ts')]: 'index',
  [join(lib, 'postgres/index.ts')]: 'postgres',
  [join(lib, 'cli/main.ts')]: 'cli',
}
const shared = join(lib, 'shared')

/** Keeps modules of another bundle external. */
const otherBundles = {
  name: 'other-bundles',
  setup({ onResolve }) {
    onResolve({ filter: /^\./ }, ({ path, resolveDir, kind }) => {
      const file = resolve(resolveDir, path).replace(/\.js$/, '.ts')
      if (kind === 'entry-point') return undefined
      if (file.startsWith(shared) && !resolveDir.startsWith(shared))
        return { path: './shared.js', external: true }
      return file in outputs ? { path: `./${outputs[file]}.js`, external: true } : undefined
    })
  },
}

await build({
  absWorkingDir: root,
  entryPoints: Object.entries(outputs).map(([input, name]) => ({ in: input, out: name })),
  outdir: resolve(process.argv[2] ?? ''),
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20.9',
  external: ['pg', '@reconcile-lock/*'],
  plugins: [otherBundles],
})
