// Passes the arguments after `npm run build --` to `napi build`, such as `--target aarch64-apple-darwin`.
import { build, install } from './steps.mjs'

install()
build(process.argv.slice(2))
