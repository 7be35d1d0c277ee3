// Known failures under qemu.
import type { KnownFailure } from './known-failure.mjs'

export const tracedEmulator: KnownFailure = {
  platform: 'qemu',
  why: 'strace also traces the system calls of the emulator',
  sometimes: true,
}

export const longerCommandLine: KnownFailure = {
  platform: 'qemu',
  why: 'other processes read a command line that begins with that of qemu',
}

export const moreProcessorTime: KnownFailure = {
  platform: 'qemu',
  why: 'emulated code needs more processor time',
  // The waiters of a failed measurement acquire while their directories are removed.
  isHarmful: true,
}

export const noNanoseconds: KnownFailure = {
  platform: 'qemu',
  why: 'qemu for s390x leaves out the nanoseconds of the times of a file',
  sometimes: true,
}

export const lostStop: KnownFailure = {
  platform: 'qemu',
  why: 'a stop signal just after SIGCONT has no effect at times',
  sometimes: true,
}
