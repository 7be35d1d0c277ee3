import { parseArgs } from 'node:util'
import { UsageError } from '../errors.js'
import { normalise } from '../matching/reference.js'
import type { Place } from '../state/run-lock.js'

export interface Resolution {
  invoice: string
  as: 'posted' | 'retry'
}

export type Command =
  | { name: 'help' }
  | { name: 'ping'; dir: string }
  | ({ name: 'dry-run' | 'status' } & Place)
  | ({ name: 'execute'; pauseMs: number; resolutions: Resolution[] } & Place)

// The longest delay of a timer in Node.js. A longer one would fire immediately.
const longestPause = 2 ** 31 - 1

export function parseCommand(args: string[]): Command {
  const { values, positionals } = parse(args)
  if (values.help) return { name: 'help' }
  const [word, ...more] = positionals
  if (word !== undefined && word !== 'status' && word !== 'ping')
    throw new UsageError(`unknown argument: ${positionals.join(' ')}`)
  if (more.length > 0) throw new UsageError(`unknown argument: ${more.join(' ')}`)
  if (word && values.execute) throw new UsageError(`${word} does not go with --execute`)
  const place = parsePlace(values.dir, values['lock-url'])
  if (!values.execute) {
    if (values['pause-ms'] !== undefined) throw new UsageError('--pause-ms needs --execute')
    if (values.resolve !== undefined) throw new UsageError('--resolve needs --execute')
    if (word !== 'ping') return { name: word ?? 'dry-run', ...place }
    if (place.lockUrl !== undefined) throw new UsageError('ping takes no lock')
    return { name: word, dir: place.dir }
  }
  const resolutions = (values.resolve ?? []).map(parseResolution)
  if (new Set(resolutions.map(({ invoice }) => invoice)).size < resolutions.length)
    throw new UsageError('--resolve names an invoice twice')
  return { name: 'execute', ...place, pauseMs: parsePause(values['pause-ms'] ?? '0'), resolutions }
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        execute: { type: 'boolean' },
        dir: { type: 'string' },
        'lock-url': { type: 'string' },
        'pause-ms': { type: 'string' },
        resolve: { type: 'string', multiple: true },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
}

function parsePlace(dir = '.', lockUrl?: string): Place {
  if (dir === '') throw new UsageError('--dir needs a directory')
  if (lockUrl === undefined) return { dir }
  // It may contain a password, so it is not printed.
  if (!/^postgres(ql)?:\/\//.test(lockUrl))
    throw new UsageError('--lock-url needs a URL, such as postgres://USER@HOST/DATABASE')
  return { dir, lockUrl }
}

function parsePause(text: string): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value > longestPause)
    throw new UsageError(`--pause-ms ${text}: expected whole milliseconds from 0 to ${longestPause}`)
  return value
}

function parseResolution(text: string): Resolution {
  const [, number, as] = /^(.+)=(posted|retry)$/.exec(text) ?? []
  if (number === undefined || (as !== 'posted' && as !== 'retry'))
    throw new UsageError(`--resolve ${text}: expected INVOICE=posted or INVOICE=retry`)
  return { invoice: normalise(number), as }
}
