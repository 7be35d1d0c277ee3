import { parseArgs } from 'node:util'
import type { Names } from './target.js'

/** The command line is wrong. */
export class UsageError extends Error {}

export type Topic = 'overview' | 'run' | 'status' | 'break' | 'sql'
export type InfoCommand = { name: 'help'; topic: Topic } | { name: 'version' }
export interface RunCommand extends Names {
  name: 'run'
  /** In milliseconds. */
  timeout: number
  message?: string
  close: boolean
  /** In milliseconds. */
  killAfter: number
  command: string[]
}
export type StatusCommand = Names & { name: 'status'; json: boolean }
export type BreakCommand = Names & { name: 'break'; force: boolean }
export type Command = InfoCommand | RunCommand | StatusCommand | BreakCommand | { name: 'sql' }

const options = {
  file: { type: 'string' },
  postgres: { type: 'string' },
  name: { type: 'string' },
  wait: { type: 'string' },
  message: { type: 'string' },
  'no-legacy': { type: 'boolean' },
  close: { type: 'boolean' },
  'kill-after': { type: 'string' },
  json: { type: 'boolean' },
  force: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean' },
} as const

type ParsedValues = {
  [N in keyof typeof options]?: (typeof options)[N]['type'] extends 'string' ? string : boolean
}

const lockOptions = ['file', 'postgres', 'name']

const allowedOptions: Record<Exclude<Topic, 'overview'>, string[]> = {
  run: [...lockOptions, 'wait', 'message', 'no-legacy', 'close', 'kill-after'],
  status: [...lockOptions, 'json'],
  break: [...lockOptions, 'force'],
  sql: [],
}

/** How long a command that has lost its lock may take to end, in milliseconds. */
const KILL_AFTER_MS = 10_000

const COMMANDS = 'run, status, break or sql'

const URL_HINT = 'a URL goes with --postgres'

/**
 * Whether a word may be a URL with a password, or a part of one. Messages must not repeat it: they end up in logs.
 */
const isSecret = (word: string): boolean => /:\/\/|@/.test(word)

const isCommand = (word: string | undefined): word is keyof typeof allowedOptions =>
  word !== undefined && Object.hasOwn(allowedOptions, word)

export function parseCommand(args: string[]): Command {
  const end = args.indexOf('--')
  const ours = end < 0 ? args : args.slice(0, end)
  const { values, positionals, names } = parse(ours)
  const [name, ...more] = positionals
  if (values.help) return { name: 'help', topic: isCommand(name) ? name : 'overview' }
  if (values.version) return { name: 'version' }
  if (name === undefined) throw new UsageError(`a command is missing: ${COMMANDS}`)
  if (!isCommand(name))
    throw new UsageError(`unknown command${isSecret(name) ? '' : ` "${name}"`}; commands: ${COMMANDS}`)
  if (name === 'run' && end < 0) {
    const example = more.length > 0 && !more.some(isSecret) ? more.join(' ') : 'COMMAND'
    throw new UsageError(`-- and the command to run are missing: reconcile-lock run -- ${example}`)
  }
  const [extra] = more
  if (extra !== undefined) throw new UsageError(superfluous(name, extra))
  if (name !== 'run' && end >= 0) throw new UsageError(`${name} takes no command to run`)
  for (const option of names) {
    if (!allowedOptions[name].includes(option)) throw new UsageError(`${name} takes no --${option}`)
  }
  const command = end < 0 ? [] : args.slice(end + 1)
  return commandOf(name, values, command)
}

/** @param word a word that the command does not accept */
function superfluous(name: string, word: string): string {
  if (!isSecret(word)) return `${name} takes no ${word} before --`
  return `${name} takes no argument before --${word.includes('://') ? `; ${URL_HINT}` : ''}`
}

function commandOf(name: keyof typeof allowedOptions, values: ParsedValues, command: string[]): Command {
  if (name === 'sql') return { name }
  const { message } = values
  const lock = parseLock(values)
  if (name === 'status') return { name, ...lock, json: values.json === true }
  if (name === 'break') return { name, ...lock, force: values.force === true }
  if (!command[0]) throw new UsageError('the command to run is missing after --')
  const timeout = parseSeconds('--wait', values.wait) ?? 0
  const killAfter = parseSeconds('--kill-after', values['kill-after']) ?? KILL_AFTER_MS
  const close = values.close === true
  if (close && values.postgres !== undefined)
    throw new UsageError('--close does not go with --postgres: the command does not inherit that lock')
  if (values['kill-after'] !== undefined && values.postgres === undefined)
    throw new UsageError('--kill-after needs --postgres: a lock on a file is not lost while its process runs')
  if (values['no-legacy'] && values.postgres !== undefined)
    throw new UsageError('--no-legacy does not go with --postgres: it is about a lock file')
  const legacy = values['no-legacy'] !== true
  const about = { legacy, timeout, close, killAfter, ...(message !== undefined && { message }) }
  return { name, ...lock, ...about, command }
}

function parseLock({ file, postgres, name }: ParsedValues): Names {
  if (file === '') throw new UsageError('--file needs the path of a file')
  if (file?.includes('://')) throw new UsageError(`--file takes a path, and no URL; ${URL_HINT}`)
  if (name === '') throw new UsageError('--name needs the name of a lock')
  if (name?.includes('://')) throw new UsageError(`--name takes a name, and no URL; ${URL_HINT}`)
  if (postgres === undefined) {
    if (name !== undefined) throw new UsageError('--name needs --postgres; a lock file is named by --file')
    return file === undefined ? {} : { file }
  }
  if (file !== undefined) throw new UsageError('--file does not go with --postgres: a lock is on one of them')
  // The message does not repeat the URL: a mistyped one may contain a password.
  if (!/^postgres(ql)?:\/\//.test(postgres))
    throw new UsageError('--postgres needs a URL, such as postgres://USER@HOST/DATABASE')
  // A part of the password would become the host, and the error of its lookup would print it.
  if (!/^[^/]*\/\/([^@/?#]*@)?[^@]*$/.test(postgres))
    throw new UsageError('--postgres: write an @ of a password as %40, and / ? # as %2F %3F %23')
  return { postgres, ...(name !== undefined && { lockName: name }) }
}

function parse(args: string[]): { values: ParsedValues; positionals: string[]; names: string[] } {
  try {
    const { values, positionals, tokens } = parseArgs({ args, options, allowPositionals: true, tokens: true })
    const names = tokens.flatMap((token) => (token.kind === 'option' ? [token.name] : []))
    const twice = names.find((name, index) => names.indexOf(name) < index)
    if (twice) throw new UsageError(`--${twice} was given twice`)
    return { values: values as ParsedValues, positionals, names }
  } catch (error) {
    throw error instanceof UsageError ? error : new UsageError(explained(error as NodeJS.ErrnoException))
  }
}

/** Names of these options in other programs. */
const OTHER_NAMES: Record<string, string> = {
  '--timeout': '--wait SECONDS',
  '-w': '--wait SECONDS',
  '--path': '--file',
  '--lock': '--file',
  '-f': '--file',
  '--quiet': '--message TEXT',
  '-o': '--close',
  '-k': '--kill-after SECONDS',
  '--pg': '--postgres',
  '--database': '--postgres',
}

/** Rewords an error of `parseArgs` in the style of this program. */
function explained({ code, message }: NodeJS.ErrnoException): string {
  if (isSecret(message))
    return code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' ? 'unknown option' : 'an option is wrong'
  const [, option = ''] = /'(--?[^' ,]+)/.exec(message) ?? []
  if (code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION') {
    const near = OTHER_NAMES[option] ?? nearest(option)
    return `unknown option ${option}${near === undefined ? '' : `; did you mean ${near}?`}`
  }
  if (code !== 'ERR_PARSE_ARGS_INVALID_OPTION_VALUE') return message
  const [, name = ''] = /--([a-z-]+)/.exec(message) ?? []
  return options[name as keyof typeof options]?.type === 'string'
    ? `${option} needs a value, such as ${option}=VALUE`
    : `${option} takes no value`
}

function nearest(option: string): string | undefined {
  const isNear = (name: string) => distance(name, option.replace(/^-+/, '')) <= 2
  const name = Object.keys(options).find(isNear)
  return name === undefined ? undefined : `--${name}`
}

/** The edit distance: how many letters are added, removed or changed. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index)
  for (const [index, letter] of [...from].entries()) {
    const next = [index + 1]
    for (let at = 0; at < to.length; at += 1) {
      const change = Number(row[at]) + (letter === to[at] ? 0 : 1)
      next.push(Math.min(change, Number(row[at + 1]) + 1, Number(next[at]) + 1))
    }
    row = next
  }
  return Number(row.at(-1))
}

/** @returns milliseconds */
function parseSeconds(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (text === 'forever') return Number.POSITIVE_INFINITY
  if (!/^(\d+\.?\d*|\.\d+)$/.test(text)) {
    const given = isSecret(text) ? '' : ` ${text}`
    throw new UsageError(`${option}${given}: expected a number of seconds >= 0, or "forever"`)
  }
  return Number(text) * 1000
}
