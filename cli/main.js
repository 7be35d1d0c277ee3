'use strict'

const { breakIt } = require('./break.js')
const exitCodes = require('./exit-codes.js')
const { help, version } = require('./help.js')
const { UsageError, parseCommand } = require('./options.js')
const { run } = require('./run.js')
const { say } = require('./say.js')
const { status } = require('./status.js')

/** @param {string[]} args what a person typed, without the program's name */
async function main(args) {
  process.stdout.on('error', unwritable)
  // There is nobody left to tell, and a command may be running.
  process.stderr.on('error', () => {})
  try {
    await carryOut(parseCommand(args))
  } catch (error) {
    const { code, message } = /** @type {NodeJS.ErrnoException} */ (error)
    const isUsage = error instanceof UsageError || code === 'ERR_INVALID_ARG_VALUE'
    say(`reconcile-lock: ${message}`)
    if (isUsage) say('reconcile-lock --help shows the usage')
    process.exitCode = isUsage ? exitCodes.usage : exitCodes.cannotLock
  }
}

/** @param {import('./options.js').Command} command */
async function carryOut(command) {
  switch (command.name) {
    case 'help':
      return console.log(help[command.topic])
    case 'version':
      return console.log(version)
    case 'run':
      return run(command)
    case 'status':
      return status(command)
    case 'break':
      return breakIt(command)
  }
}

/**
 * A reader that has seen enough, such as `head`, is no fault; an answer that is lost otherwise is.
 * @param {NodeJS.ErrnoException} error
 */
function unwritable({ code, message }) {
  if (code === 'EPIPE') return
  say(`reconcile-lock: standard output: ${message}`)
  process.exitCode = exitCodes.ioError
}

module.exports = { main }
