import { type FileHandle, open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { codeOf } from '../errors.js'
import { type AuditEvent, parseAudit } from './audit-event.js'
import { syncDirectory } from './durable.js'
import type { Payment } from './payment.js'

const name = 'audit.log'

/** The content of the log; empty if there is no file. */
export async function readAudit(dir: string): Promise<AuditEvent[]> {
  try {
    return parseAudit(await readFile(join(dir, name), 'utf8'), name).events
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return []
    throw error
  }
}

/** The log, open for appending. Only for the holder of the lock. */
export class AuditLog {
  private constructor(
    private readonly handle: FileHandle,
    private readonly fence: bigint | undefined,
  ) {}

  static async open(dir: string, fence?: bigint): Promise<AuditLog> {
    const handle = await open(join(dir, name), 'a+', 0o600)
    try {
      const text = await handle.readFile('utf8')
      const whole = text.slice(0, parseAudit(text, name).complete)
      // The next line must not continue the partial line of a killed run.
      if (whole.length < text.length) await handle.truncate(Buffer.byteLength(whole))
      await syncDirectory(dir)
      return new AuditLog(handle, fence)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** Appends one line, and returns when it is on the disk. */
  async append(event: AuditEvent['event'], payment: Payment, by?: AuditEvent['by']): Promise<void> {
    const { invoice, transaction, cents } = payment
    const at = new Date().toISOString()
    const line = { event, at, pid: process.pid, invoice, transaction, cents, ...(by && { by }) }
    const fence = this.fence === undefined ? {} : { fence: String(this.fence) }
    await this.handle.appendFile(`${JSON.stringify({ ...line, ...fence })}\n`)
    await this.handle.datasync()
  }

  async close(): Promise<void> {
    await this.handle.close()
  }
}
