'use strict'

/** Prints what somebody has to run who may create tables. Connects to nothing. */
function sql() {
  const { tableSql } = require('../postgres/dist/index.js')
  process.stdout.write(tableSql())
}

module.exports = { sql }
