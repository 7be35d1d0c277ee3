import type { LockError } from '../../index.js'
import { exitCodes } from './exit-codes.js'
import type { BreakCommand } from './options.js'
import { describe, print, say } from './output.js'
import { type Target, withSlots } from './target.js'

export const breakCommand = ({ force, ...names }: BreakCommand): Promise<void> =>
  withSlots(names, async (slots) => {
    for (const slot of slots) await breakSlot(slot, force, slots.length > 1)
  })

async function breakSlot(slot: Target, force: boolean, isOneOfSeveral: boolean): Promise<void> {
  const path = await slot.path()
  try {
    print((await slot.break(force)) ? `${path}: removed` : `${path}: there is no lock`)
  } catch (error) {
    const { code, message, holder, reason } = error as LockError
    if (code !== 'E_LOCK_CONTENTION') throw error
    say(message)
    say(
      `${isOneOfSeveral ? `${path} ` : ''}not removed: ${reason ?? (holder ? describe(holder) : 'a process holds it')}; --force removes it`,
    )
    process.exitCode = exitCodes.contention
  }
}
