import { exitCodes } from './exit-codes.js'
import type { StatusCommand } from './options.js'
import { print } from './output.js'
import { withTarget } from './target.js'

const codes = { free: exitCodes.ok, held: exitCodes.held, stale: exitCodes.stale }

export async function status({ json, ...names }: StatusCommand): Promise<void> {
  const found = await withTarget(names, (lock) => lock.inspect())
  process.exitCode = codes[found.state]
  if (json) console.log(JSON.stringify(found, bigintToString))
  else print(`${found.path}: ${found.state}: ${found.reason}`)
}

/** The token as a string: many JSON parsers round a number of its size. */
const bigintToString = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value)
