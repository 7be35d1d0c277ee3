// Tests that cannot pass in a runtime, and what that lacks. Each is run all the same: see `suite.mjs`.

/** @typedef {import('./suite.mjs').Exception & { runtimes: string[] }} Listed `runtimes`: kinds, or with a version */

const bun = [
  {
    file: 'cli-faults',
    name: 'an answer that cannot be written is a failure of its own, and no state of the lock',
    why: 'Bun tells nobody that its standard output takes nothing',
  },
  {
    file: 'cli-signals',
    name: 'a SIGTSTP that SIGCONT has overtaken stops nobody, as with a quick fg',
    why: 'Bun calls the listeners of two signals in the order of their arrival, with time between them',
  },
  {
    file: 'cli-signals',
    name: 'a signal is passed on where there is no /proc',
    why: 'Bun does not start the command there',
  },
  {
    file: 'cli',
    name: 'a usage error ends with 64, a reason and a hint: -- true',
    why: 'Bun keeps the first `--` of a command line to itself',
  },
  {
    file: 'copies',
    name: '100 threads that come and go leave no memory, no descriptor, no thread and no file',
    why: 'Bun starts threads of its own meanwhile',
  },
  {
    file: 'diagnostics',
    name: 'NODE_DEBUG prints what happens, also what the exit releases',
    why: 'util.debuglog() prints nothing in Bun',
  },
  {
    file: 'lifetimes',
    name: 'a process that ends by an exit within an exit, before ours removes the files of its locks',
    why: 'Bun ends without exit(3), so a lock that the exit listeners did not get to stays as a stale file',
  },
  {
    file: 'lifetimes',
    name: 'a process that ends by an exit without listeners removes the files of its locks',
    why: 'Bun ends without exit(3), so a lock that the exit listeners did not get to stays as a stale file',
  },
  {
    file: 'lifetimes',
    name: /^a lock that is acquired while the process exits by (process\.exit|an uncaught error) goes too/,
    why: 'Bun ends without exit(3), so a lock that the exit listeners did not get to stays as a stale file',
  },
  {
    file: 'native',
    name: /^the platform's package was omitted: .* in a worker$/,
    why: "an error that ends a worker reaches Bun's main thread without its class and fields",
  },
  {
    file: 'waiting-cost',
    name: /^200 waiters for one lock, and 200 for as many locks/,
    why: 'Bun starts and ends threads of its own meanwhile',
  },
  {
    file: 'waiting-cost',
    name: /^no thread of libuv's pool is blocked/,
    why: "Bun has no libuv pool: the control, of which a blocked thread is to stop the others, isn't stopped",
  },
  {
    file: 'worker',
    name: /^a process that ends by .* removes the files of its threads' locks$/,
    why: 'Bun ends without exit(3), so the locks of its threads stay as stale files',
  },
]

/** @type {Listed[]} */
export const exceptions = [...bun.map((each) => ({ runtimes: ['bun'], ...each }))]
