'use strict'

// npm runs this at every installation. It does nothing unless the binary is to be built on this machine:
// `npm rebuild reconcile-lock --build-from-source`, or npm_config_build_from_source=true in the environment.

const asked = (process.env.npm_config_build_from_source ?? '').split(',')
if (asked.includes('true') || asked.includes('reconcile-lock')) require('./build.js').build()
