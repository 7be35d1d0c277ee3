import { builtin } from './globals.js'

/** The name of this host. Its module is loaded on demand: few programs need it, and all would wait for it. */
export const thisHost = (): string =>
  builtin('node:os', () => require('node:os') as typeof import('node:os')).hostname()
