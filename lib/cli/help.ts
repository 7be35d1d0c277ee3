import { version } from '../../package.json'
import { exitCodes } from './exit-codes.js'
import {
  type CommandName,
  commands,
  type Option,
  type OptionName,
  options,
  optionsOf,
} from './option-table.js'
import type { Topic } from './options.js'

/** The columns of a terminal, and where the descriptions of options begin. */
const WIDTH = 80
const INDENT = 18

/** One line or more for each entry: its name, and its description beside it or below it. */
function list(entries: [name: string, text: string][], indent = INDENT): string {
  return entries.flatMap(([name, text]) => describe(`  ${name}`, text, indent)).join('\n')
}

function describe(name: string, text: string, indent: number): string[] {
  const lines = name.length < indent - 1 ? [name] : [name, '']
  for (const word of text.split(' ')) {
    const line = lines.at(-1) ?? ''
    if (line.length >= indent && line.length + word.length >= WIDTH) lines.push(' '.repeat(indent) + word)
    else lines.push(`${lines.pop()?.padEnd(line.length < indent ? indent : line.length + 1)}${word}`)
  }
  return lines
}

function label(name: OptionName): string {
  const { short, value }: Option = options[name]
  return `${short === undefined ? '' : `-${short}, `}--${name}${value === undefined ? '' : ` ${value}`}`
}

const lines = (names: OptionName[]): string =>
  list(names.map((name) => [label(name), name === 'help' ? 'show this' : options[name].help]))

const optionsFor = (command: CommandName): string => lines(optionsOf(command).map(([name]) => name))

const LOCKING = ['run', 'status', 'break'] as const
const PRINTING = ['status', 'break', 'sql', 'completion'] as const
const EACH = ['run', ...PRINTING] as const

/** The exit codes with the commands that end with them. */
const exits: [code: keyof typeof exitCodes, of: readonly CommandName[], meaning: string][] = [
  ['ok', ['status'], 'the lock is free'],
  ['ok', ['break'], 'there is no lock now; the output says whether one was removed'],
  ['ok', ['sql', 'completion'], 'the text was printed'],
  ['held', ['status'], 'the lock is held'],
  [
    'stale',
    ['status'],
    'the lock is stale: its holder has ended. run takes it over if it may write the file and the filesystem has kernel locks',
  ],
  ['usage', EACH, 'invalid arguments'],
  ['cannotLock', LOCKING, 'cannot acquire, inspect or remove the lock (not contention)'],
  [
    'ioError',
    ['run'],
    'the lock was lost while the command ran, or cannot be released; whatever the exit code of the command',
  ],
  ['ioError', PRINTING, 'cannot write to standard output'],
  ['contention', ['run'], 'another process holds the lock (or --conflict-exit-code)'],
  ['contention', ['break'], 'a process holds the lock'],
  ['notExecutable', ['run'], 'cannot execute the command'],
  ['notFound', ['run'], 'command not found'],
]

/** The exit codes of a command, or of all commands. */
function exitsOf(command?: CommandName): string {
  const entries = exits.flatMap(([code, of, meaning]): [string, string][] => {
    if (command !== undefined && !of.includes(command)) return []
    const commands = command !== undefined || of === EACH ? '' : `${of.join(', ')}: `
    return [[String(exitCodes[code]), commands + meaning]]
  })
  return `Exit codes:\n${list(entries, 7)}`
}

const url = `URL is postgres://USER@HOST:PORT/DATABASE. Parts that it omits come from PGHOST,
PGPORT, PGUSER, PGDATABASE and PGPASSWORD. Put a password there or into
~/.pgpass: all users of this machine can read a command line. In a URL, write
an @ of a password as %40. This needs the package pg: npm install pg`

const overview = `Runs a command while it holds a lock, so that two runs do not overlap.

Usage: reconcile-lock run [options] -- COMMAND [ARGUMENTS]
       reconcile-lock status [options]
       reconcile-lock break [options]
       reconcile-lock sql
       reconcile-lock completion bash|zsh|fish

Commands:
${list(Object.entries(commands))}

Options, before or after the command:
${lines(['file', 'postgres', 'name'])}
${list([
  [label('help'), options.help.help],
  [label('version'), `show the version (${version})`],
])}

${url}

${exitsOf()}

Otherwise run ends as its command: see reconcile-lock run --help.`

const run = `Runs a command while holding the lock. It passes on input, output, signals and
the exit status.

Usage: reconcile-lock run [options] -- COMMAND [ARGUMENTS]
       reconcile-lock run [options] --command COMMAND
       reconcile-lock run [options] FILE COMMAND [ARGUMENTS]
       reconcile-lock run [options] FILE -c COMMAND

The forms with FILE are those of flock(1): the options come first, and without
--nonblock or --wait they wait for the holder. FILE is the lock file, or a
directory for its default lock file.

Options:
${optionsFor('run')}

${url}

${exitsOf('run')}

Otherwise the exit code is that of the command. If a signal kills the command,
the same signal ends run, on Linux without a core file of its own. As process 1
of a container run exits with 128 + N instead. If a real-time signal kills the
command, Node.js reports a success, and run exits with 0. Without a terminal run
waits until the process group of the command has ended, and holds the lock until
then.

In the foreground of a terminal, run does not pass on SIGINT, SIGQUIT, SIGTSTP,
SIGCONT and SIGWINCH to a command that handles them: the terminal sends them to
the command too, and run cannot distinguish these from a signal by kill. Send
SIGTERM, or send the signal to the command itself.

The command inherits the descriptor of the lock file. If SIGKILL ends run, the
lock stays held until the command has ended. A command that closes inherited
descriptors, such as sudo, does not keep the lock; neither does a background
process that a finished command has started. On Windows, and with --postgres,
the command does not inherit the lock: end both processes.

The lock is lost if another program removes, replaces or moves its file. With
--postgres it is lost when its session ends: the server restarts, the session is
terminated, or the network fails. Then another process can acquire it. So run
sends SIGTERM when it notices the loss, and SIGKILL after --kill-after, to the
process group of the command; in a terminal and on Windows, to the command
alone. Until then both commands can run. With --postgres protect the data by the
fencing token in the environment of the command, RECONCILE_LOCK_TOKEN: each
later holder has a higher one. Store it with the data, and refuse a write with a
lower one.`

const status = `Prints the state of the lock and its holder. Does not change the lock.

Usage: reconcile-lock status [options]

Options:
${optionsFor('status')}

${url}

${exitsOf('status')}`

const breakLock = `Removes a stale lock. run takes over stale locks itself, unless it may not write
the file, or the filesystem has no kernel locks.

Usage: reconcile-lock break [options]

Options:
${optionsFor('break')}

${url}

${exitsOf('break')}`

const sql = `Prints the SQL that creates the table reconcile_lock of --postgres. Use it if
the role that holds locks may not create tables; otherwise that role creates the
table itself. Does not connect to a server.

Usage: reconcile-lock sql | psql DATABASE

The role that holds locks needs CONNECT on the database, USAGE on the schema,
and SELECT, INSERT and UPDATE on the table. The table must belong to that role,
to a role that it is a member of, or to a superuser.

Options:
${optionsFor('sql')}

${exitsOf('sql')}`

const completion = `Prints the script that completes the command line in a shell.

Usage: reconcile-lock completion bash|zsh|fish

bash: source <(reconcile-lock completion bash), in ~/.bashrc
zsh:  reconcile-lock completion zsh > DIRECTORY/_reconcile-lock, with a
      DIRECTORY of $fpath
fish: reconcile-lock completion fish | source, in config.fish

Options:
${optionsFor('completion')}

${exitsOf('completion')}`

export const help: Record<Topic, string> = { overview, run, status, break: breakLock, sql, completion }

export { version }
