// Known failures of wine 8.
import type { KnownFailure } from './known-failure.mjs'

export const noCommand: KnownFailure = { platform: 'wine', why: 'wine 8 does not return command lines' }

export const noLinks: KnownFailure = { platform: 'wine', why: 'wine 8 makes no symbolic links' }

export const noDeletion: KnownFailure = {
  platform: 'wine',
  why: 'wine 8 has no POSIX deletion: an open file keeps its name, so no process removes or replaces a lock file',
}

export const fewHandles: KnownFailure = {
  platform: 'wine',
  why: 'wine 8 keeps each closed handle of a locked file until the lock ends, and has 20,000 for all processes',
  isHarmful: true,
}
