import type { LockError } from '../../index.js'
import { exitCodes } from './exit-codes.js'
import type { BreakCommand } from './options.js'
import { describe, print, say } from './output.js'
import { withTarget } from './target.js'

export async function breakCommand({ force, ...names }: BreakCommand): Promise<void> {
  try {
    const [path, isRemoved] = await withTarget(
      names,
      async (lock) => [await lock.path(), await lock.break(force)] as const,
    )
    print(isRemoved ? `${path}: removed` : `${path}: there is no lock`)
  } catch (error) {
    const { code, message, holder, reason } = error as LockError
    if (code !== 'E_LOCK_CONTENTION') throw error
    say(message)
    say(`not removed: ${reason ?? (holder ? describe(holder) : 'a process holds it')}; --force removes it`)
    process.exitCode = exitCodes.contention
  }
}
