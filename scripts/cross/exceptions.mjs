// Tests that cannot pass where a program for another machine is emulated, and what is missing there. Each is run all
// the same, see `../runtimes/suite.mjs`; a file without a name is one that tests nothing there.

const START_TIME =
  "qemu makes up a process' own /proc/self/stat, and with it another start time than others see"

/** @type {import('../runtimes/suite.mjs').Exception[]} */
export const qemu = [
  {
    file: 'judging',
    name: 'our boot, a live pid and its start time: held, whatever the kernel lock says',
    why: START_TIME,
  },
  { file: 'judging', name: 'keys of a newer version are passed over', why: START_TIME },
]

/** @type {import('../runtimes/suite.mjs').Exception[]} */
export const wine = []
