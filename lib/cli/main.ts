import { breakCommand } from './break.js'
import { completion } from './completion.js'
import { checkEncoding } from './encoding.js'
import { exitCodes } from './exit-codes.js'
import { help, version } from './help.js'
import { type Command, parseCommand, UsageError } from './options.js'
import { printError, stderrIsTerminal } from './output.js'
import { run } from './run.js'
import { sql } from './sql.js'
import { status } from './status.js'

/** @param args the arguments, without the name of the program */
async function main(args: string[]): Promise<void> {
  // A terminal, or the reader of NODE_DEBUG, may be gone, and a command may be running.
  if (stderrIsTerminal || process.env.NODE_DEBUG) process.stderr.on('error', () => {})
  try {
    checkEncoding(args)
    const command = parseCommand(args)
    // run does not write there, and a stream of Node.js would make a pipe non-blocking for the other programs at it.
    if (command.name !== 'run') process.stdout.on('error', onStdoutError)
    await dispatch(command)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const message = textOf(error as Error)
    const isUsage = error instanceof UsageError || code === 'ERR_INVALID_ARG_VALUE'
    // That message already begins with the name and has several lines.
    if (code === 'E_LOCK_NATIVE') message.split(/\n(?= {2}(?:package|cause|fix): )/).forEach(printError)
    else printError(`reconcile-lock: ${message}`)
    if (isUsage) printError('reconcile-lock --help shows the usage')
    process.exitCode = isUsage ? exitCodes.usage : exitCodes.cannotLock
  }
}

/** `pg` reports its own code if a server requires a password and none is set. The library names its own API. */
function textOf({ code, message, path }: NodeJS.ErrnoException): string {
  if (code === 'E_LOCK_UNSUPPORTED') return message.replace('or legacy: false if', 'or --no-legacy if')
  if (code === 'E_LOCK_STALE') return `${message}: reconcile-lock break --file ${path}`
  if (!message.endsWith('client password must be a string')) return message
  return 'the server asks for a password, and neither the URL nor PGPASSWORD nor ~/.pgpass has one'
}

async function dispatch(command: Command): Promise<void> {
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
      return breakCommand(command)
    case 'sql':
      return sql()
    case 'completion':
      return completion(command)
  }
}

/** A reader that closes early, such as `head`, is not an error; any other lost output is. */
function onStdoutError({ code, message }: NodeJS.ErrnoException): void {
  if (code === 'EPIPE') return
  printError(`reconcile-lock: cannot write to standard output: ${message}`)
  process.exitCode = exitCodes.ioError
}

// For `export` the bundler defines a getter for each inherited property, too. So the program would not load if another
// module has extended `Object.prototype`.
export = { main }
