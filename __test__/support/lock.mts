// The package, for the processes that tests start. The first import of a CommonJS module takes Node.js 20 and 22 30 ms
// of a processor, in which they compile a parser of exports.
import { createRequire } from 'node:module'

export const lock = createRequire(import.meta.url)('reconcile-lock') as typeof import('reconcile-lock')
