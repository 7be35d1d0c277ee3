import { version } from '../../package.json'

const lock = `  --file F        the lock file
                  (default: .xero-reconcile-lock.json in the current directory)
  --postgres URL  a lock for several machines, on PostgreSQL instead of a file
  --name NAME     its name in that database (default: reconcile)`

const url = `URL is postgres://USER@HOST:PORT/DATABASE. What it leaves out the environment
says: PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD. A password belongs there
or into ~/.pgpass, as everybody on this machine can read a command line. In a
URL an @ of a password is written %40. The package pg has to be installed:
npm install pg`

const overview = `Runs a command under a lock, so that it never runs twice at once.

Usage: reconcile-lock run [options] -- COMMAND [ARGUMENTS]
       reconcile-lock status [options]
       reconcile-lock break [options]
       reconcile-lock sql

Commands:
  run             run the command while holding the lock
  status          say whether the lock is held, and by whom
  break           remove a lock whose holder is gone
  sql             print the SQL that creates the table of --postgres

Options, before or after the command:
${lock}
  -h, --help      show this, or what a command takes: reconcile-lock run --help
  --version       show the version (${version})

${url}

Exit codes:
  0, 1, 2   of status: free, held, stale; 0 of break: the lock is gone
  64        wrong arguments
  73        the lock cannot be acquired, looked at or removed
  74        run: the lock was lost although the command succeeded, or while it
            was running; otherwise: the answer could not be written
  75        somebody holds the lock
  126, 127  run: the command cannot be executed, or was not found
  any       run: the command's own; if it died of a signal, run does too`

const run = `Runs a command while holding the lock. Its input, output, signals and exit
status are passed through.

Usage: reconcile-lock run [options] -- COMMAND [ARGUMENTS]

Options:
${lock}
  --wait SECONDS  how long to wait for a holder: a number, or "forever"
                  (default: 0)
  --message TEXT  what to say if the lock is held
                  (default: Another reconcile run is in progress)
  --no-legacy     no process of the legacy TypeScript lock uses the lock file: a
                  take-over skips its pause of 5 ms
  --close         the command does not inherit the lock: it ends with this
                  process, even if that is killed and the command runs on
  --kill-after SECONDS
                  with --postgres: how long a command that has lost its lock
                  may take to end after SIGTERM, until SIGKILL; "forever" sends
                  none (default: 10)
  -h, --help      show this

${url}

Exit codes: the command's own, or
  64   wrong arguments
  73   the lock cannot be acquired for another reason than a holder
  74   the command succeeded, but somebody removed the lock file meanwhile,
       or it cannot be removed; or, on PostgreSQL, the lock was lost while the
       command was running, whatever became of that
  75   somebody holds the lock
  126  the command cannot be executed
  127  the command was not found

If the command dies of a signal, so does this.

In the foreground of a terminal, SIGINT, SIGQUIT, SIGTSTP, SIGCONT and SIGWINCH
are not passed on to a command that handles them: the terminal sends them to the
command too, and this process cannot tell these from such a signal by kill. Send
SIGTERM, or send the signal to the command.

The command inherits the descriptor of the lock file. If this process is killed
by SIGKILL, the lock is held until the command has ended, and status says so. A
command that closes what it inherits, such as sudo, does not keep the lock. A
process that a finished command leaves behind does not keep it either. On
Windows and on PostgreSQL a command inherits no lock: end both processes.

On PostgreSQL a session holds the lock, and the lock is lost with it: when the
server restarts, somebody ends the session, or the network fails. The server
then lets another run in, so SIGTERM is sent when the loss is noticed, and
SIGKILL after --kill-after: to the command and to all that it has started, which
have a process group of their own; in a terminal, and on Windows, to the command
alone. Until then two can be at work. What protects the data is the fencing
token in the environment of the command, RECONCILE_LOCK_TOKEN: a later run has a
higher one. Write it along with the data, and refuse a lower one.`

const status = `Says whether the lock is held, and by whom. Changes nothing.

Usage: reconcile-lock status [options]

Options:
${lock}
  --json          print one line of JSON: path, state, holder and reason, and
                  on PostgreSQL the last run's token, as a string
  -h, --help      show this

${url}

Exit codes:
  0   free
  1   held
  2   stale: its holder is gone; the next run takes it over
  64  wrong arguments
  73  the lock cannot be looked at
  74  the answer could not be written`

const breakLock = `Removes a lock whose holder is gone. No run needs that: it takes such a lock
over.

Usage: reconcile-lock break [options]

Options:
${lock}
  --force         remove the lock even if somebody holds it. That run is not
                  stopped: from then on two runs can be at work at once. On
                  PostgreSQL it is told, and run then ends its command
  -h, --help      show this

${url}

Exit codes:
  0   it is gone; what is printed says whether there was one
  64  wrong arguments
  73  it cannot be removed
  74  the answer could not be written
  75  somebody holds it`

const sql = `Prints the SQL that creates the table reconcile_lock of --postgres, for those
who may create tables when the role that holds locks may not; a role that may
creates it by itself. Connects to nothing.

Usage: reconcile-lock sql | psql DATABASE

The role that holds locks then needs SELECT, INSERT and UPDATE on the table.

Options:
  -h, --help      show this

Exit codes:
  0   it was printed
  64  wrong arguments
  74  it could not be written`

export const help = { overview, run, status, break: breakLock, sql }

export { version }
