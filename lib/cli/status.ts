import { delay } from '../shared/clock.js'
import { exitCodes } from './exit-codes.js'
import type { StatusCommand } from './options.js'
import { describeHeld, describeProcess, print } from './output.js'
import { type AnyStatus, withSlots } from './target.js'

const codes = { free: exitCodes.ok, held: exitCodes.held, stale: exitCodes.stale }

/** How often `--watch` inspects the lock, in milliseconds: a server costs more than a file. */
const FILE_INTERVAL_MS = 250
const SERVER_INTERVAL_MS = 1000

export async function status({ json, watch, ...names }: StatusCommand): Promise<void> {
  const interval = names.postgres === undefined ? FILE_INTERVAL_MS : SERVER_INTERVAL_MS
  await withSlots(names, async (slots) => {
    for (let shown: string[] = []; ; await delay(interval)) {
      const all = await Promise.all(slots.map((slot) => slot.inspect()))
      process.exitCode = codes[stateOf(all)]
      for (const [slot, found] of all.entries()) if (shown[slot] !== keyOf(found)) show(found, json)
      shown = all.map(keyOf)
      // A reader that has closed needs no further line.
      if (!watch || !process.stdout.writable) return
    }
  })
}

/** Whether one more process could acquire, and whether it would take over. */
const stateOf = (slots: AnyStatus[]): AnyStatus['state'] =>
  (['free', 'stale'] as const).find((state) => slots.some((slot) => slot.state === state)) ?? 'held'

/** Two statuses with the same key are not a change. */
const keyOf = ({ state, holder, reason }: AnyStatus): string =>
  JSON.stringify([state, holder?.pid, holder?.host, holder?.thread, holder?.createdAt, reason])

function show(found: AnyStatus, json: boolean): void {
  if (json) console.log(JSON.stringify(found, bigintToString))
  else print(`${found.path}: ${sentenceOf(found)}`)
}

function sentenceOf(found: AnyStatus): string {
  const { state, holder, reason, readers = [] } = found
  const processes = readers.filter((reader) => 'pid' in reader)
  const named = processes.map(describeProcess).join('; ')
  // Of an ended reader the system has no user. Its command can hold the lock, which the reason may say.
  const areAlive = processes.every(({ user }) => user !== undefined)
  if (!holder && named && areAlive) return `held in shared mode by ${named}`
  const isProven = holder && 'user' in found && found.user !== undefined
  if (!isProven) return `${state}: ${reason}`
  return `${describeHeld(holder, found)}${named && `; it waits for ${named}`}`
}

/** The token as a string: many JSON parsers round a number of its size. */
const bigintToString = (_: string, value: unknown) => (typeof value === 'bigint' ? String(value) : value)
