import { version } from '../../package.json'

const lock = `  --file F        the lock file
                  (default: .xero-reconcile-lock.json in the current directory)
  --postgres URL  a lock for several machines, on PostgreSQL instead of a file
  --name NAME     its name in that database (default: reconcile)`

const url = `URL is postgres://USER@HOST:PORT/DATABASE. Parts that it omits come from PGHOST,
PGPORT, PGUSER, PGDATABASE and PGPASSWORD. Put a password there or into
~/.pgpass: all users of this machine can read a command line. In a URL, write
an @ of a password as %40. This needs the package pg: npm install pg`

const overview = `Runs a command while it holds a lock, so that two runs do not overlap.

Usage: reconcile-lock run [options] -- COMMAND [ARGUMENTS]
       reconcile-lock status [options]
       reconcile-lock break [options]
       reconcile-lock sql

Commands:
  run             run a command while holding the lock
  status          print the state of the lock and its holder
  break           remove a stale lock
  sql             print the SQL that creates the table of --postgres

Options, before or after the command:
${lock}
  -h, --help      show this, or the options of a command: run --help
  --version       show the version (${version})

${url}

Exit codes:
  0, 1, 2   status: the lock is free, held, stale
  0         break: there is no lock now
  64        invalid arguments
  73        cannot acquire, inspect or remove the lock (not contention)
  74        run: the lock was lost, or cannot be released
  74        status, break, sql: cannot write to standard output
  75        another process holds the lock
  126, 127  run: cannot execute the command; command not found
  other     run: the exit code of the command; if a signal kills the command,
            the same signal ends run`

const run = `Runs a command while holding the lock. It passes on input, output, signals and
the exit status.

Usage: reconcile-lock run [options] -- COMMAND [ARGUMENTS]

Options:
${lock}
  --wait SECONDS  how long to wait for the holder: a number, or "forever"
                  (default: 0)
  --message TEXT  the message if the lock is held
                  (default: Another reconcile run is in progress)
  --no-legacy     no process of the legacy TypeScript lock uses the lock file: a
                  take-over skips its pause of 5 ms
  --close         do not let the command inherit the lock: the lock ends with
                  this process, even if the command still runs
  --kill-after SECONDS
                  with --postgres: the time between SIGTERM and SIGKILL for a
                  command whose lock was lost; "forever" sends no SIGKILL
                  (default: 10)
  -h, --help      show this

${url}

Exit codes: that of the command, or
  64   invalid arguments
  73   cannot acquire the lock (not contention)
  74   the lock was lost while the command ran, or cannot be released; whatever
       the exit code of the command
  75   another process holds the lock
  126  cannot execute the command
  127  command not found

If a signal kills the command, the same signal ends this process, without a core
file of its own.

In the foreground of a terminal, run does not pass on SIGINT, SIGQUIT, SIGTSTP,
SIGCONT and SIGWINCH to a command that handles them: the terminal sends them to
the command too, and run cannot distinguish these from a signal by kill. Send
SIGTERM, or send the signal to the command itself.

The command inherits the descriptor of the lock file. If SIGKILL ends run, the
lock stays held until the command has ended. A command that closes inherited
descriptors, such as sudo, does not keep the lock; neither does a background
process that a finished command has started. On Windows, and with --postgres,
the command does not inherit the lock: end both processes.

With --postgres a session holds the lock. The lock is lost when the session
ends: the server restarts, the session is terminated, or the network fails. Then
another process can acquire it. So run sends SIGTERM when it notices the loss,
and SIGKILL after --kill-after, to the process group of the command; in a
terminal and on Windows, to the command alone. Until then both commands can run.
Protect the data by the fencing token in the environment of the command,
RECONCILE_LOCK_TOKEN: each later holder has a higher one. Store it with the
data, and refuse a write with a lower one.`

const status = `Prints the state of the lock and its holder. Changes nothing.

Usage: reconcile-lock status [options]

Options:
${lock}
  --json          print one line of JSON: path, state, holder and reason; with
                  --postgres also the token of the last holder, as a string
  -h, --help      show this

${url}

Exit codes:
  0   free
  1   held
  2   stale: the holder has ended; run takes the lock over if it may
  64  invalid arguments
  73  cannot inspect the lock
  74  cannot write to standard output`

const breakLock = `Removes a stale lock. run takes over stale locks itself, unless it may not write
the file, or the filesystem has no kernel locks.

Usage: reconcile-lock break [options]

Options:
${lock}
  --force         remove the lock even if a process holds it. That process is
                  not stopped, so two runs can overlap. With --postgres its
                  session ends, and run then ends its command
  -h, --help      show this

${url}

Exit codes:
  0   there is no lock now; the output says whether one was removed
  64  invalid arguments
  73  cannot remove the lock
  74  cannot write to standard output
  75  a process holds the lock`

const sql = `Prints the SQL that creates the table reconcile_lock of --postgres. Use it if
the role that holds locks may not create tables; otherwise that role creates the
table itself. Does not connect to a server.

Usage: reconcile-lock sql | psql DATABASE

The role that holds locks needs CONNECT on the database, USAGE on the schema,
and SELECT, INSERT and UPDATE on the table.

Options:
  -h, --help      show this

Exit codes:
  0   the SQL was printed
  64  invalid arguments
  74  cannot write to standard output`

export const help = { overview, run, status, break: breakLock, sql }

export { version }
