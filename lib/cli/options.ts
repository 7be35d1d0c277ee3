import { parseArgs } from 'node:util'
import { MAX_SLOTS } from '../shared/slots.js'
import { describeParseError } from './option-errors.js'
import {
  type CommandName,
  commands,
  isCommand,
  type Option,
  type OptionName,
  options,
  SHELLS,
  type Shell,
  spellings,
} from './option-table.js'
import { isAssignment, isSecret } from './secrets.js'
import { type Names, namesDirectory } from './target.js'

/** The command line is wrong. */
export class UsageError extends Error {}

export type Topic = 'overview' | CommandName
export type InfoCommand = { name: 'help'; topic: Topic } | { name: 'version' } | { name: 'sql' }
export type CompletionCommand = { name: 'completion'; shell: Shell }
export interface RunCommand extends Names {
  name: 'run'
  /** In milliseconds. */
  timeout: number
  message?: string
  durable: boolean
  shared: boolean
  close: boolean
  /** In milliseconds. */
  killAfter: number
  /** The exit code of a refusal. */
  conflictExitCode?: number
  verbose: boolean
  command: string[]
}
export type StatusCommand = Names & { name: 'status'; json: boolean; watch: boolean }
export type BreakCommand = Names & { name: 'break'; force: boolean }
export type Command = InfoCommand | CompletionCommand | RunCommand | StatusCommand | BreakCommand

type ParsedValues = {
  [N in OptionName]?: (typeof options)[N] extends { value: string } ? string : boolean
}

/** How long a command that has lost its lock may take to end, in milliseconds. */
const KILL_AFTER_MS = 10_000

const COMMANDS = Object.keys(commands)
  .join(', ')
  .replace(/, (\w+)$/, ' or $1')

const OF_FILES = new Set<OptionName>(['file', 'slots', 'mode', 'durable', 'no-legacy', 'close'])

/** For `flock 9` of a shell script. */
const DESCRIPTOR_HINT =
  'run does not lock a descriptor; put the part of the script into a command: reconcile-lock run FILE sh -c COMMAND'

const URL_HINT = 'a URL goes with --postgres'

/** The arguments of this program and those of the command that it runs. */
interface Split {
  ours: string[]
  /** The lock file or directory, in the form of flock(1). */
  place?: string
  /** The words after `--` or after the place. */
  rest?: string[]
}

/** As getopt(3) with `+`: after the place of `run`, as after `--`, all arguments belong to its command. */
function split(args: string[]): Split {
  const { tokens } = parseArgs({
    args,
    options: spellings,
    allowPositionals: true,
    tokens: true,
    strict: false,
  })
  const end = tokens.find(({ kind }) => kind === 'option-terminator')?.index ?? args.length
  const words = tokens.flatMap((token) => (token.kind === 'positional' && token.index < end ? [token] : []))
  const place = words[0]?.value === 'run' ? words[1] : undefined
  const ours = args.slice(0, place?.index ?? end)
  if (place) return { ours, place: place.value, rest: args.slice(place.index + 1) }
  return end < args.length ? { ours, rest: args.slice(end + 1) } : { ours }
}

export function parseCommand(args: string[]): Command {
  const { ours, place, rest } = split(args)
  const { values, positionals, names } = parse(ours)
  const [name, word, extra] = positionals
  if (values.help) return { name: 'help', topic: isCommand(name) ? name : 'overview' }
  if (values.version) return { name: 'version' }
  if (name === undefined) throw new UsageError(`a command is missing: ${COMMANDS}`)
  if (!isCommand(name))
    throw new UsageError(`unknown command${isSecret(name) ? '' : ` "${name}"`}; commands: ${COMMANDS}`)
  const unexpected = name === 'completion' ? extra : word
  if (unexpected !== undefined) throw new UsageError(superfluous(name, unexpected))
  if (name !== 'run' && rest) throw new UsageError(`${name} does not run a command`)
  for (const option of names) {
    const { of }: Option = options[option]
    if (!of.includes(name)) throw new UsageError(`${name} does not accept --${option}`)
    if (values.postgres !== undefined && OF_FILES.has(option))
      throw new UsageError(`--${option} does not go with --postgres: it is about a lock file`)
  }
  if (name === 'sql') return { name }
  if (name === 'completion') return { name, shell: parseShell(word) }
  const lock = parseLock(values)
  if (name === 'status') return { name, ...lock, json: values.json === true, watch: values.watch === true }
  if (name === 'break') return { name, ...lock, force: values.force === true }
  return { name, ...parseRun(values), ...lock, ...parseWork(values, place, rest) }
}

/** @param word a word that the command does not accept */
function superfluous(name: string, word: string): string {
  if (!isSecret(word)) return `${name}: unexpected argument "${word}"`
  return `${name}: unexpected argument${word.includes('://') ? `; ${URL_HINT}` : ''}`
}

function parseShell(word: string | undefined): Shell {
  const shell = SHELLS.find((each) => each === word)
  if (shell === undefined) throw new UsageError(`completion needs the name of a shell: ${SHELLS.join(', ')}`)
  return shell
}

function parseRun(values: ParsedValues) {
  const { message, close = false, durable = false, shared = false, verbose = false } = values
  const killAfter = parseSeconds('--kill-after', values['kill-after']) ?? KILL_AFTER_MS
  if (shared && values.exclusive) throw new UsageError('--shared and --exclusive exclude each other')
  if (shared && parseSlots(values.slots) > 1) throw new UsageError('--shared and --slots exclude each other')
  if (shared && durable) throw new UsageError('--shared and --durable exclude each other')
  const conflictExitCode = parseCode(values['conflict-exit-code'])
  const legacy = values['no-legacy'] !== true
  return {
    legacy,
    durable,
    shared,
    close,
    killAfter,
    verbose,
    ...(message !== undefined && { message }),
    ...(conflictExitCode !== undefined && { conflictExitCode }),
  }
}

/** The command, and the time to wait in milliseconds, which depends on the form of the command line. */
function parseWork(values: ParsedValues, place: string | undefined, rest: string[] | undefined) {
  const wait = parseSeconds('--wait', values.wait)
  const command = place === undefined ? commandOf(values, rest) : commandAfter(place, values, rest ?? [])
  const timeout = values.nonblock ? 0 : (wait ?? (place === undefined ? 0 : Number.POSITIVE_INFINITY))
  return { timeout, command, ...(place !== undefined && { place }) }
}

function commandOf({ command }: ParsedValues, rest: string[] | undefined): string[] {
  if (command !== undefined) {
    if (rest) throw new UsageError('--command does not go with another command')
    return byShell(command)
  }
  if (!rest) throw new UsageError('-- and the command to run are missing: reconcile-lock run -- COMMAND')
  if (!rest[0]) throw new UsageError('the command to run is missing after --')
  return rest
}

/** The command of the form of flock(1): `FILE COMMAND ARGUMENTS`, `FILE -- COMMAND ARGUMENTS` or `FILE -c COMMAND`. */
function commandAfter(place: string, values: ParsedValues, rest: string[]): string[] {
  const [first, line, ...more] = rest
  const isNamed = values.file !== undefined || values.postgres !== undefined
  if (isNamed || first?.includes('://') || (first === undefined && values.command === undefined)) {
    if (!isNamed && /^\d+$/.test(place) && first === undefined) throw new UsageError(DESCRIPTOR_HINT)
    const words = [place, ...rest]
    const example = words.some(isSecret) ? 'COMMAND' : words.join(' ')
    throw new UsageError(`-- and the command to run are missing: reconcile-lock run -- ${example}`)
  }
  if (place === '') throw new UsageError('the path of the lock file is empty')
  if (isAssignment(place))
    throw new UsageError(
      'run takes a path before the command, not a variable: put env and the variable after the path',
    )
  if (place.includes('://'))
    throw new UsageError(`run takes a path before the command, not a URL; ${URL_HINT}`)
  if (first === undefined || values.command !== undefined)
    return commandOf(values, first === undefined ? undefined : rest)
  if (first === '-c' || first === '--command') {
    if (line === undefined || more.length > 0)
      throw new UsageError(`${first} needs one command line, such as ${first} 'COMMAND ARGUMENTS'`)
    return byShell(line)
  }
  const command = first === '--' ? rest.slice(1) : rest
  if (!command[0]) throw new UsageError(`the command to run is missing after ${first || 'the lock file'}`)
  if (first.startsWith('-') && first !== '--')
    throw new UsageError(
      `run takes options before the lock file; a command that begins with - comes after --`,
    )
  return command
}

function byShell(line: string): string[] {
  if (process.platform === 'win32')
    throw new UsageError('--command needs a POSIX shell; on Windows: -- cmd /d /c COMMAND')
  return [process.env.SHELL || '/bin/sh', '-c', line]
}

function parseCode(text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const code = /^\d{1,3}$/.test(text) ? Number(text) : Number.NaN
  if (code <= 255) return code
  throw new UsageError('--conflict-exit-code: expected a whole number from 0 to 255')
}

function parseSlots(text = '1'): number {
  const slots = /^\d{1,4}$/.test(text) ? Number(text) : 0
  if (slots >= 1 && slots <= MAX_SLOTS) return slots
  throw new UsageError(`--slots: expected a whole number from 1 to ${MAX_SLOTS}`)
}

function parseMode(text: string): number {
  const mode = /^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : 0
  if ((mode & 0o600) === 0o600 && (mode & 0o111) === 0) return mode
  throw new UsageError('--mode: expected an octal mode from 600 to 666 without execute bits')
}

function parseLock({ file, postgres, name, mode: bits, slots }: ParsedValues): Names {
  if (file === '') throw new UsageError('--file needs the path of a file')
  if (file?.includes('://')) throw new UsageError(`--file takes a path, not a URL; ${URL_HINT}`)
  if (file !== undefined && namesDirectory(file))
    throw new UsageError(`--file ${file}: this names a directory; give the path of a file`)
  if (name === '') throw new UsageError('--name needs the name of a lock')
  if (name?.includes('://')) throw new UsageError(`--name takes a name, not a URL; ${URL_HINT}`)
  if (postgres === undefined) {
    if (name !== undefined) throw new UsageError('--name needs --postgres; a lock file is named by --file')
    const mode = bits === undefined ? {} : { mode: parseMode(bits) }
    return { slots: parseSlots(slots), ...(file !== undefined && { file }), ...mode }
  }
  // The message does not repeat the URL: a mistyped one may contain a password.
  if (!/^postgres(ql)?:\/\//.test(postgres))
    throw new UsageError('--postgres needs a URL, such as postgres://USER@HOST/DATABASE')
  // A part of the password would become the host, and the error of its lookup would print it.
  if (!/^[^/]*\/\/([^@/?#]*@)?[^@]*$/.test(postgres))
    throw new UsageError('--postgres: write an @ of a password as %40, and / ? # as %2F %3F %23')
  return { postgres, ...(name !== undefined && { lockName: name }) }
}

function parse(args: string[]): { values: ParsedValues; positionals: string[]; names: OptionName[] } {
  try {
    const { positionals, tokens } = parseArgs({
      args,
      options: spellings,
      allowPositionals: true,
      tokens: true,
    })
    const values: Partial<Record<OptionName, string | boolean>> = {}
    for (const token of tokens) {
      const name = token.kind === 'option' ? spellings[token.name]?.name : undefined
      if (token.kind !== 'option' || name === undefined) continue
      if (values[name] !== undefined && token.value !== undefined)
        throw new UsageError(`--${name} was given twice`)
      values[name] = token.value ?? true
    }
    return { values: values as ParsedValues, positionals, names: Object.keys(values) as OptionName[] }
  } catch (error) {
    throw error instanceof UsageError
      ? error
      : new UsageError(describeParseError(error as NodeJS.ErrnoException))
  }
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
