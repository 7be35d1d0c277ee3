// What qemu does differently.
import type { KnownFailure } from './known-failure.mjs'

export const otherStartTime: KnownFailure = {
  platform: 'qemu',
  why: 'qemu emulates /proc/self/stat, with another start time than other processes read',
}

/** The two times are in ticks of 10 ms, so they can be equal. */
export const unprovenProcess: KnownFailure = { ...otherStartTime, sometimes: true }

export const tracedEmulator: KnownFailure = {
  platform: 'qemu',
  why: 'strace also sees the system calls of the emulator',
  sometimes: true,
}

export const madeUpTerminal: KnownFailure = {
  platform: 'qemu',
  why: 'qemu emulates /proc/self/stat, by which every process has a terminal',
}
