// Tests that cannot pass where a program for another machine is emulated, and what is missing there. Each is run all
// the same: see `../runtimes/suite.mjs`.

/** @typedef {import('../runtimes/suite.mjs').Exception} Exception */

const START_TIME =
  "qemu makes up a process' own /proc/self/stat, and with it another start time than others see"

const OTHER_MACHINE = 'it builds an addon for this machine'

/** @type {Exception[]} */
const emulated = [
  {
    file: 'api/judging',
    name: 'our boot, a live pid and its start time: held, whatever the kernel lock says',
    why: START_TIME,
  },
  { file: 'api/judging', name: 'keys of a newer version are passed over', why: START_TIME },
  {
    file: 'cli/signals',
    name: 'signals are passed on, once, and the wrapper outlives the command',
    why: "qemu makes up a process' own /proc/self/stat: it looks as if a terminal had told the command already",
  },
  {
    file: 'cli/signals',
    name: 'a SIGTSTP that SIGCONT has overtaken stops nobody, as with a quick fg',
    why: 'qemu takes signals before the program does, so that none is seen to be pending',
  },
  {
    file: 'cli/signals',
    name: 'a signal is passed on where there is no /proc',
    why: 'qemu does not end there',
  },
  {
    file: 'cli/terminal',
    name: 'a wait in the background leaves the terminal to others',
    why: "qemu makes up a process' own /proc/self/stat, and with it no terminal",
  },
  {
    file: 'linux/faults',
    why: "strace makes the emulator's system calls fail, and not only those of the program",
  },
  { file: 'api/panic', name: /^a panic in the (call|work|settling) is an error/, why: OTHER_MACHINE },
  {
    file: 'linux/copies',
    name: /^100 threads that come and go|^beside (a main thread|one that has not)/,
    why: 'a hundred threads take longer than two minutes',
  },
]

/** @type {Exception[]} */
export const qemu = [
  ...emulated,
  {
    file: 'api/native',
    name: /^(a glibc that is too old|musl for glibc, as (Alpine|zig) links it|glibc for musl) names both$/,
    why: "its libraries are made by this machine's compiler, for this machine",
  },
]

/** @type {Exception[]} */
export const musl = [
  {
    file: 'api/native',
    name: /^the binary is of another machine, /,
    why: 'musl looks at no machine in a header',
  },
  { file: 'api/panic', name: /^a panic in the (call|work|settling) is an error/, why: OTHER_MACHINE },
]

/** @type {Exception[]} */
export const emulatedMusl = [
  ...emulated,
  ...musl,
  { file: 'long/soak', why: "qemu makes up a process' own /proc/self/stat, and with it no resident memory" },
]

const NO_LINKS = 'wine 8 makes no symbolic links'
const NO_DELETION =
  'wine 8 has no POSIX deletion: a file that is open keeps its name, so nobody can remove or replace the file of a lock'
const NO_UNIX = 'it starts npm or cargo, which are no Windows programs here'

/** @type {Exception[]} */
export const wine = [
  {
    file: 'api/api',
    name: 'withLock tells of a lock that was lost, and of the first failure where there are two',
    why: NO_DELETION,
  },
  { file: 'api/bad-files', name: /refuses a (dangling )?symbolic link and leaves it alone$/, why: NO_LINKS },
  {
    file: 'api/break',
    name: /^what (this thread|another thread|another process) holds is refused, and by force removed/,
    why: NO_DELETION,
  },
  { file: 'api/contract', name: "8: releaseLock does not remove another run's lock", why: NO_DELETION },
  {
    file: 'api/diagnostics',
    name: /^(a lock that was lost is told of|a release by path is told of|what the exit finds lost)/,
    why: NO_DELETION,
  },
  {
    file: 'api/inspect',
    name: 'inspectors that never rest have no acquirer refused, and see its lock held or none',
    why: NO_DELETION,
  },
  { file: 'api/native', why: NO_UNIX },
  { file: 'api/panic', why: NO_UNIX },
  {
    file: 'api/release',
    name: /^(a lock whose file was (removed|replaced)|a lock that another process has by now)/,
    why: NO_DELETION,
  },
  {
    file: 'api/release',
    name: /^(a lock whose file was moved, with a link|a lock is found by another name)/,
    why: NO_LINKS,
  },
  {
    file: 'waiting/hand-over',
    name: /^somebody (removes the file|breaks the lock by force|renames another file over it): whoever waits/,
    why: NO_DELETION,
  },
  {
    file: 'waiting/hand-over',
    name: 'the lock file becomes a symbolic link: everybody who waits is told, in every process',
    why: NO_LINKS,
  },
  {
    file: 'waiting/timeout',
    name: 'a wait that began at a holder is over in time although an empty file has taken its place',
    why: NO_DELETION,
  },
  {
    file: 'waiting/notifications',
    name: /tells of its wait when it begins and once a second after that/,
    why: NO_DELETION,
  },
]
