// Known failures of Deno 2.9.
import type { KnownFailure } from './known-failure.mjs'

export const replacesImports: KnownFailure = {
  runtime: 'deno',
  why: 'mock.timers of Deno also replace earlier imports of node:timers',
  isHarmful: true,
}
