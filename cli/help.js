'use strict'

const { version } = require('../package.json')

const file = `  --file F        the lock file
                  (default: .xero-reconcile-lock.json in the current directory)`

const overview = `Runs a command under a lock, so that it never runs twice at once.

Usage: reconcile-lock run [options] -- COMMAND [ARGUMENTS]
       reconcile-lock status [options]
       reconcile-lock break [options]

Commands:
  run             run the command while holding the lock
  status          say whether the lock is held, and by whom
  break           remove a lock whose holder is gone

Options, before or after the command:
${file}
  -h, --help      show this, or what a command takes: reconcile-lock run --help
  --version       show the version (${version})

Exit codes:
  0, 1, 2   of status: free, held, stale; 0 of break: the lock is gone
  64        wrong arguments
  73        the lock cannot be acquired, looked at or removed
  74        run: the lock was lost although the command succeeded;
            otherwise: the answer could not be written
  75        somebody holds the lock
  126, 127  run: the command cannot be executed, or was not found
  any       run: the command's own; if it died of a signal, run does too`

const run = `Runs a command while holding the lock. Its input, output, signals and exit
status are passed through.

Usage: reconcile-lock run [options] -- COMMAND [ARGUMENTS]

Options:
${file}
  --wait SECONDS  how long to wait for a holder: a number, or "forever"
                  (default: 0)
  --message TEXT  what to say if the lock is held
                  (default: Another reconcile run is in progress)
  -h, --help      show this

Exit codes: the command's own, or
  64   wrong arguments
  73   the lock cannot be acquired for another reason than a holder
  74   the command succeeded, but somebody removed the lock file meanwhile,
       or it cannot be removed
  75   somebody holds the lock
  126  the command cannot be executed
  127  the command was not found

If the command dies of a signal, so does this. The lock ends with this process
and not with the command: who kills it by SIGKILL has to end both.`

const status = `Says whether the lock is held, and by whom. Changes nothing.

Usage: reconcile-lock status [options]

Options:
${file}
  --json          print one line of JSON: path, state, holder and reason
  -h, --help      show this

Exit codes:
  0   free
  1   held
  2   stale: its holder is gone; the next run takes it over
  64  wrong arguments
  73  the lock file cannot be looked at
  74  the answer could not be written`

const breakLock = `Removes a lock whose holder is gone. No run needs that: it takes such a lock
over.

Usage: reconcile-lock break [options]

Options:
${file}
  --force         remove the lock even if somebody holds it. That run is not
                  stopped: from then on two runs can be at work at once
  -h, --help      show this

Exit codes:
  0   it is gone; what is printed says whether there was one
  64  wrong arguments
  73  it cannot be removed
  74  the answer could not be written
  75  somebody holds it`

module.exports = { version, help: { overview, run, status, break: breakLock } }
