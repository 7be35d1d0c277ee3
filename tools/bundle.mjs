// Bundles `lib/` into the given directory: a file for each entry point. Code that they share is in each of them,
// because Node.js takes longer to find another file than to compile the code.
import { join, resolve } from 'node:path'
import { build } from 'esbuild'
import { root } from './steps.mjs'

const lib = join(root, 'lib')
const outputs = {
  [join(lib, 'index.ts')]: 'index',
  [join(lib, 'postgres/index.ts')]: 'postgres',
  [join(lib, 'cli/main.ts')]: 'cli',
}

/** Keeps the other entry points external. */
const otherBundles = {
  name: 'other-bundles',
  setup({ onResolve }) {
    onResolve({ filter: /^\./ }, ({ path, resolveDir, kind }) => {
      const file = resolve(resolveDir, path).replace(/\.js$/, '.ts')
      if (kind === 'entry-point' || !(file in outputs)) return undefined
      return { path: `./${outputs[file]}.js`, external: true }
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
