'use strict'

const { breakIt } = require('./break.js')
const exitCodes = require('./exit-codes.js')
const { help, version } = require('./help.js')
const { UsageError, parseCommand } = require('./options.js')
const { run } = require('./run.js')
const { say } = require('./say.js')
const { sql } = require('./sql.js')
const { status } = require('./status.js')

/** @param {string[]} args what a person typed, without the program's name */
async function main(args) {
  process.stdout.on('error', unwritable)
  // There is nobody left to tell, and a command may be running.
  process.stderr.on('error', () => {})
  try {
    await carryOut(parseCommand(args))
  } catch (error) {
    const { code } = /** @type {NodeJS.ErrnoException} */ (error)
    const message = textOf(/** @type {Error} */ (error))
    const isUsage = error instanceof UsageError || code === 'ERR_INVALID_ARG_VALUE'
    // That message begins with the name, and has lines of its own.
    if (code === 'E_LOCK_NATIVE') message.split(/\n(?= {2}(?:package|cause|fix): )/).forEach(say)
    else say(`reconcile-lock: ${message}`)
    if (isUsage) say('reconcile-lock --help shows the usage')
    process.exitCode = isUsage ? exitCodes.usage : exitCodes.cannotLock
  }
}

/**
 * What is wrong, also where `pg` says it of its own code: a server asked for a password, and there was none.
 * @param {Error} error
 */
function textOf({ message }) {
  if (!message.endsWith('client password must be a string')) return message
  return 'the server asks for a password, and neither the URL nor PGPASSWORD nor ~/.pgpass has one'
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
    case 'sql':
      return sql()
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
