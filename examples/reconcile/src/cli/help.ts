export const help = `Matches the transactions of bank.csv with the open invoices of invoices.csv.

Usage: reconcile [--dir D]                     show what would be posted
       reconcile --execute [options]           post it; one run at a time
       reconcile status [--dir D]              show the lock and what is posted
       reconcile ping [--dir D]                check the access to the accounting service

Options:
  --dir D                      the directory of the data (default: the current one)
  --lock-url URL               for runs on several machines: the lock is on PostgreSQL, for which all of
                               them give this URL, also to status; without it the lock is a file in D.
                               Set a password by PGPASSWORD: all users of the machine can read a command line
  --pause-ms N                 simulated time of one posting at the accounting service (default: 0)
  --resolve INVOICE=posted     a run died while posting it, and the accounting service has it
  --resolve INVOICE=retry      a run died while posting it, and the accounting service does not have it:
                               safe if that request cannot arrive any more, or with idempotency keys
  --help                       show this

Exit codes: 0 done, 1 failure, 64 wrong arguments, 65 wrong data, 74 the lock was lost, so that
another run may be at work, 75 another run is in progress, or another command has been refreshing
the token for ten seconds.`
