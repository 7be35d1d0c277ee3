// `npm run docs`: makes the API pages from the comments in index.d.ts. A warning is an error.
import { join } from 'node:path'
import { install, root, run } from './steps.mjs'

install()
const home = join(root, 'tools/docs')
run(process.execPath, [join(home, 'node_modules/typedoc/bin/typedoc')], { cwd: home })
