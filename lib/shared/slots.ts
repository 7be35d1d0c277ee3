/** The maximum number of slots: each waiter watches the file of every slot. */
export const MAX_SLOTS = 1000

/** The lock files of the slots. The first one is the lock file itself, so that a process without slots occupies one. */
export const slotPaths = (path: string, slots: number): string[] =>
  Array.from({ length: slots }, (_, slot) => (slot === 0 ? path : `${path}.slot${slot}`))
