/**
 * The name of this host. Its module is loaded on demand: few programs need it, and all would wait for it.
 * `jest.mock('os')` does not replace what `getBuiltinModule` of Node.js 20.16 returns.
 */
export const thisHost = (): string =>
  (process.getBuiltinModule?.('node:os') ?? (require('node:os') as typeof import('node:os'))).hostname()
