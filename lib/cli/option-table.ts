// The one list of commands and options: the parser, the help and the shell completion are made of it.

export type CommandName = 'run' | 'status' | 'break' | 'sql' | 'completion'

export interface Option {
  short?: string
  /** Other spellings, which the help does not show: long names, or a letter. */
  aliases?: readonly string[]
  /** The placeholder of its value; without it the option is a switch. */
  value?: string
  /** How a shell completes the value: as a file, or one of these words. */
  completes?: 'file' | readonly string[]
  help: string
  /** The commands that take it. */
  of: readonly CommandName[]
}

export const commands: Record<CommandName, string> = {
  run: 'run a command while holding the lock',
  status: 'print the state of the lock and its holder',
  break: 'remove a stale lock',
  sql: 'print the SQL that creates the table of --postgres',
  completion: 'print the completion script of a shell',
}

export const isCommand = (word: string | undefined): word is CommandName =>
  word !== undefined && Object.hasOwn(commands, word)

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

const ALL = ['run', 'status', 'break'] as const
const EVERYWHERE = Object.keys(commands) as CommandName[]

export const options = {
  file: {
    value: 'F',
    completes: 'file',
    help: 'the lock file (default: .xero-reconcile-lock.json in the current directory)',
    of: ALL,
  },
  postgres: {
    value: 'URL',
    help: 'a lock for several machines, on PostgreSQL instead of a file',
    of: ALL,
  },
  name: { value: 'NAME', help: 'its name in that database (default: reconcile)', of: ALL },
  wait: {
    short: 'w',
    aliases: ['timeout'],
    value: 'SECONDS',
    completes: ['forever'],
    help: 'how long to wait for the holder: a number, or "forever" (default: 0; with FILE: forever)',
    of: ['run'],
  },
  nonblock: { short: 'n', aliases: ['nb'], help: 'do not wait for the holder, as --wait 0', of: ['run'] },
  'conflict-exit-code': {
    short: 'E',
    value: 'CODE',
    help: 'the exit code if another process holds the lock (default: 75)',
    of: ['run'],
  },
  slots: {
    value: 'N',
    help: 'how many processes can hold the lock at once (default: 1); all of them give the same number, also to status and break',
    of: ALL,
  },
  message: {
    value: 'TEXT',
    help: 'the message if the lock is held (default: Another reconcile run is in progress)',
    of: ['run'],
  },
  command: {
    short: 'c',
    value: 'COMMAND',
    help: 'run this command line by $SHELL, or /bin/sh, instead of the words after --',
    of: ['run'],
  },
  shared: {
    short: 's',
    help: 'acquire a shared lock: several processes can hold it at once, but none beside an exclusive one',
    of: ['run'],
  },
  exclusive: {
    short: 'x',
    aliases: ['e'],
    help: 'acquire an exclusive lock, as without this option',
    of: ['run'],
  },
  close: {
    short: 'o',
    help: 'do not let the command inherit the lock: the lock ends with this process, even if the command still runs',
    of: ['run'],
  },
  'no-legacy': {
    help: 'no legacy lock, a pid file in JSON without a kernel lock, uses the file: a take-over skips its pause of 5 ms',
    of: ['run'],
  },
  durable: {
    help: 'sync the lock file to the disk before the command starts: then the next process can report this one after a power failure',
    of: ['run'],
  },
  mode: {
    value: 'MODE',
    help: 'the permission bits of the lock file in octal, such as 660 for the users of a group (default: 600); status and break need it for the lock of another user in a directory such as /tmp',
    of: ALL,
  },
  'kill-after': {
    value: 'SECONDS',
    completes: ['forever'],
    help: 'the time between SIGTERM and SIGKILL for a command whose lock was lost; "forever" sends no SIGKILL (default: 10)',
    of: ['run'],
  },
  verbose: { help: 'report how long it took to acquire the lock', of: ['run'] },
  json: {
    help: 'print one line of JSON: path, state, holder, reason, readers, and command and user of the holder if they are known; with --postgres also the token of the last holder, as a string',
    of: ['status'],
  },
  watch: {
    help: 'print a line now and at each change of the state or the holder, until SIGINT, SIGTERM or an error',
    of: ['status'],
  },
  force: {
    help: 'remove the lock even if a process holds it. That process is not stopped, so two runs can overlap. With --postgres its session ends, and run then ends its command',
    of: ['break'],
  },
  help: {
    short: 'h',
    help: 'show this, or the options of a command: run --help',
    of: EVERYWHERE,
  },
  version: { short: 'V', help: 'show the version', of: [] },
} as const satisfies Record<string, Option>

export type OptionName = keyof typeof options

/** The options of `parseArgs` with the name in the table, by each spelling. */
export const spellings: Record<string, { type: 'string' | 'boolean'; short?: string; name: OptionName }> = {}
for (const [key, { short, aliases = [], value }] of Object.entries(options) as [OptionName, Option][]) {
  const type = value === undefined ? 'boolean' : 'string'
  spellings[key] = { type, name: key, ...(short && { short }) }
  for (const alias of aliases) spellings[alias] = { type, name: key }
}

/** The options that a command takes, in the order of its help. */
export const optionsOf = (command: CommandName): [name: OptionName, option: Option][] =>
  (Object.entries(options) as [OptionName, Option][]).filter(([, option]) => option.of.includes(command))
