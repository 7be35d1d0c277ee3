// Tests that cannot pass where a program for another machine is emulated, and what is missing there. Each is run all
// the same: see `../runtimes/suite.mjs`.

/** @typedef {import('../runtimes/suite.mjs').Exception} Exception */

/** @type {Exception[]} */
const emulated = [
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
  {
    file: 'linux/copies',
    name: /^100 threads that come and go|^beside (a main thread|one that has not)/,
    why: 'a hundred threads take longer than two minutes',
  },
]

/** @type {Exception[]} */
export const qemu = emulated

/** @type {Exception[]} */
export const musl = []

/** @type {Exception[]} */
export const emulatedMusl = [
  ...emulated,
  { file: 'long/soak', why: "qemu makes up a process' own /proc/self/stat, and with it no resident memory" },
]

/** @type {Exception[]} */
export const wine = []
