#!/usr/bin/env node
import { parseCommand } from './cli/args.js'
import { help } from './cli/help.js'
import { dryRun } from './commands/dry-run.js'
import { execute } from './commands/execute.js'
import { ping } from './commands/ping.js'
import { status } from './commands/status.js'
import { codeOf, DataError, exitCode, UsageError } from './errors.js'

async function main(args: string[]): Promise<number> {
  const command = parseCommand(args)
  switch (command.name) {
    case 'help':
      console.log(help)
      return exitCode.ok
    case 'status':
      await status(command)
      return exitCode.ok
    case 'ping':
      await ping(command.dir)
      return exitCode.ok
    case 'dry-run':
      await dryRun(command)
      return exitCode.ok
    case 'execute':
      return execute(command)
  }
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = exitCode.failure
  if (error instanceof UsageError) {
    console.error('reconcile --help shows the usage')
    process.exitCode = exitCode.usage
  } else if (error instanceof DataError) {
    process.exitCode = exitCode.data
  } else if (codeOf(error) === 'E_LOCK_CONTENTION') {
    process.exitCode = exitCode.busy
  } else if (codeOf(error) === 'E_LOCK_LOST') {
    process.exitCode = exitCode.lost
  }
}
