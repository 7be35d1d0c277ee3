// Tests that cannot pass in a runtime, and what that lacks. Each is run all the same: see `suite.mjs`.

/** @typedef {import('./suite.mjs').Exception & { runtimes: string[] }} Listed `runtimes`: kinds, or with a version */

const bun = [
  {
    file: 'cli/faults',
    name: 'an answer that cannot be written is a failure of its own, and no state of the lock',
    why: 'Bun tells nobody that its standard output takes nothing',
  },
  {
    file: 'cli/signals',
    name: 'a SIGTSTP that SIGCONT has overtaken stops nobody, as with a quick fg',
    why: 'Bun calls the listeners of two signals in the order of their arrival, with time between them',
    sometimes: true,
  },
  {
    file: 'cli/signals',
    name: 'a signal is passed on where there is no /proc',
    why: 'Bun does not start the command there',
  },
  {
    file: 'cli/commands',
    name: 'a usage error ends with 64, a reason and a hint: -- true',
    why: 'Bun keeps the first `--` of a command line to itself',
  },
  {
    file: 'linux/copies',
    name: '100 threads that come and go leave no memory, no descriptor, no thread and no file',
    why: 'Bun starts threads of its own meanwhile',
    sometimes: true,
  },
  {
    file: 'linux/lifetimes',
    name: 'a process that ends by an exit within an exit, before ours removes the files of its locks',
    why: 'Bun ends without exit(3), so a lock that the exit listeners did not get to stays as a stale file',
  },
  {
    file: 'linux/lifetimes',
    name: 'a process that ends by an exit without listeners removes the files of its locks',
    why: 'Bun ends without exit(3), so a lock that the exit listeners did not get to stays as a stale file',
  },
  {
    file: 'linux/lifetimes',
    name: /^a lock that is acquired while the process exits by (process\.exit|an uncaught error) goes too/,
    why: 'Bun ends without exit(3), so a lock that the exit listeners did not get to stays as a stale file',
  },
  {
    file: 'linux/waiting-cost',
    name: /^200 waiters for one lock, and 200 for as many locks/,
    why: 'Bun starts and ends threads of its own meanwhile',
    sometimes: true,
  },
  {
    file: 'linux/waiting-cost',
    name: /^no thread of libuv's pool is blocked/,
    why: "Bun has no libuv pool: the control, of which a blocked thread is to stop the others, isn't stopped",
  },
]

const deno = [
  {
    file: 'cli/faults',
    name: /^a command that (is below a file|is a link to itself|has too long a name) ends with 126/,
    why: "the errors of Deno's spawn() have a text of their own and no number",
  },
  {
    file: 'cli/faults',
    name: /^(an answer that cannot be written|a command runs on under its lock although)/,
    why: 'Deno ends over a standard stream that takes nothing, whoever listens',
  },
  { file: 'cli/signals', why: 'ChildProcess.kill() of Deno passes one signal on, and no other after that' },
  { file: 'cli/terminal', why: 'ChildProcess.kill() of Deno passes one signal on, and no other after that' },
  {
    file: 'cli/commands',
    name: 'it works in a pipeline, and a reader that leaves is no fault',
    why: 'Deno ends over a reader that has left, whoever listens',
  },
  {
    file: 'linux/copies',
    name: 'two copies in several threads exclude each other, and end with their own thread alone',
    why: 'worker.terminate() of Deno resolves before the thread has ended, and its lock goes a moment later',
    sometimes: true,
  },
  {
    file: 'linux/copies',
    name: /^100 threads that come and go/,
    why: 'Deno gives the memory of many threads back later than a hundred have come and gone',
    sometimes: true,
  },
  {
    file: 'linux/faults',
    why: 'processes of Deno that strace is attached to end before their time, sometimes one, sometimes another',
  },
  {
    file: 'linux/lifetimes',
    name: /^a process that ends by an error in the listener of uncaught errors/,
    why: 'Deno ends then without its exit listeners, and without exit(3)',
  },
  {
    file: 'linux/lifetimes',
    name: /^a lock that is acquired while the process exits by an uncaught error goes too/,
    why: 'Deno calls no exit listener after an uncaught error',
  },
  {
    file: 'linux/lifetimes',
    name: 'many locks and many turns leave no listener behind and cause no warning',
    why: 'Deno has an exit listener of its own',
  },
  {
    file: 'postgres/cli',
    name: 'it works in a pipeline, and a reader that leaves is no fault',
    why: 'Deno, called by a shell, may do nothing',
  },
  {
    file: 'postgres/cli',
    name: 'a lock file needs nothing of PostgreSQL, and that no native binary',
    why: 'Deno has no --require',
  },
  {
    file: 'postgres/cli-terminal',
    why: 'Deno, called by a shell, asks on the terminal what the program may do',
  },
  {
    file: 'long/soak',
    name: /^\d+ (calls with wrong arguments|asynchronous) /,
    why: 'resident memory goes up and down by more in Deno; it does not grow with the calls',
    sometimes: true,
  },
  {
    file: 'linux/waiting-cost',
    name: /^no thread of libuv's pool is blocked/,
    why: 'Deno has no libuv pool: a blocked thread, the control, does not stop the others',
  },
  {
    file: 'linux/waiting-without-events',
    name: 'a user who has used up all inotify instances waits all the same',
    why: 'child_process.fork() of Deno reaches no process that another command, unshare, has started',
  },
]

/** @type {Listed[]} */
export const exceptions = [
  ...bun.map((each) => ({ runtimes: ['bun'], ...each })),
  ...deno.map((each) => ({ runtimes: ['deno'], ...each })),
]
