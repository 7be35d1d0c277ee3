'use strict'

// npm runs this at every installation. It does nothing unless the binary is to be built on this machine, which its own
// option says, or npm's, as in `npm rebuild reconcile-lock --build-from-source`, or the environment.

const asked = (process.env.npm_config_build_from_source ?? '').split(',')
if (process.argv[2] === '--build-from-source' || asked.includes('true') || asked.includes('reconcile-lock'))
  require('./build.js').build()
