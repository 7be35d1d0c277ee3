import type { LockError } from '../../index.js'
import { exitCodes } from './exit-codes.js'
import type { BreakCommand } from './options.js'
import { describe, print, printError } from './output.js'
import { type Target, withSlots } from './target.js'

export const breakCommand = ({ force, ...names }: BreakCommand): Promise<void> =>
  withSlots(names, async (slots) => {
    const of = { force, onServer: names.postgres !== undefined, isOneOfSeveral: slots.length > 1 }
    for (const slot of slots) await breakSlot(slot, of)
  })

async function breakSlot(
  slot: Target,
  { force, onServer, isOneOfSeveral }: { force: boolean; onServer: boolean; isOneOfSeveral: boolean },
): Promise<void> {
  const path = await slot.path()
  try {
    print((await slot.break(force)) ? `${path}: removed` : `${path}: there is no lock`)
  } catch (error) {
    const { code, message, holder, reason } = error as LockError
    if (code !== 'E_LOCK_CONTENTION') throw error
    printError(message)
    const name = isOneOfSeveral ? `${path} ` : ''
    // On a server it ends only a holder that the table names.
    const hint = force || (onServer && !holder) ? '' : '; --force removes it'
    printError(`${name}not removed: ${reason ?? (holder ? describe(holder) : 'a process holds it')}${hint}`)
    process.exitCode = exitCodes.contention
  }
}
