import type { LockError } from '../../index.js'
import { exitCodes } from './exit-codes.js'
import type { BreakCommand } from './options.js'
import { describe, print, printError } from './output.js'
import { type Target, withSlots } from './target.js'

/** The effect of `--force` on a lock that is held. */
const hints = {
  file: '; --force removes it, but does not stop that process',
  server: '; --force ends the session that holds it',
}

export const breakCommand = ({ force, ...names }: BreakCommand): Promise<void> =>
  withSlots(names, async (slots) => {
    const onServer = names.postgres !== undefined
    for (const slot of slots) await breakSlot(slot, force, onServer)
  })

async function breakSlot(slot: Target, force: boolean, onServer: boolean): Promise<void> {
  const path = await slot.path()
  try {
    print((await slot.break(force)) ? `${path}: removed` : `${path}: there is no lock`)
  } catch (error) {
    const { code, message, holder, reason } = error as LockError
    if (code !== 'E_LOCK_CONTENTION') throw error
    printError(message)
    const why = reason ?? (holder ? describe(holder) : 'a process holds it')
    // On a server it ends only a holder that the table names.
    const hint = force || (onServer && !holder) ? '' : hints[onServer ? 'server' : 'file']
    printError(`reconcile-lock: ${path} was not removed: ${why}${hint}`)
    process.exitCode = exitCodes.contention
  }
}
