#!/usr/bin/env node
'use strict'

/** @returns {typeof import('../cli/main.js').main} */
function load() {
  try {
    return require('../cli/main.js').main
  } catch (error) {
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (error)
    if (code !== 'E_LOCK_NATIVE') throw error
    console.error(message)
    return async () => {
      process.exitCode = require('../cli/exit-codes.js').cannotLock
    }
  }
}

load()(process.argv.slice(2))
