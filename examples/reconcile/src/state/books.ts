import { AuditLog, readAudit } from './audit-log.js'
import { check } from './check.js'
import type { Payment } from './payment.js'
import { readState, writeState } from './state-file.js'

/** The state file and the audit log, kept consistent. Only for the holder of the lock. */
export class Books {
  private constructor(
    private readonly dir: string,
    private readonly log: AuditLog,
    private posted: Payment[],
    private open: Payment[],
  ) {}

  /** Opens both files and adds to each the postings that the other one proves. */
  static async open(dir: string, fence?: bigint): Promise<Books> {
    const log = await AuditLog.open(dir, fence)
    try {
      const posted = await readState(dir)
      const { unsettled, unlogged, unsaved } = check(posted, await readAudit(dir))
      const books = new Books(dir, log, posted, unsettled)
      for (const payment of unlogged) await log.append('posted', payment, 'check')
      if (unsaved.length > 0) await books.save(unsaved)
      return books
    } catch (error) {
      await log.close()
      throw error
    }
  }

  /** Payments that may or may not have arrived. */
  get unsettled(): readonly Payment[] {
    return this.open
  }

  /** The payments that were posted, or may have been. They must not be posted. */
  get settledOrDoubtful(): Payment[] {
    return [...this.posted, ...this.open]
  }

  /** Posts one payment by `send`. A run that is killed meanwhile leaves an intent in the log for the next one. */
  async post(payment: Payment, send: (payment: Payment) => Promise<void>): Promise<void> {
    await this.log.append('intent', payment)
    await send(payment)
    await this.save([payment])
    await this.log.append('posted', payment)
  }

  /** Settles a doubtful payment by the decision of a person. */
  async resolve(payment: Payment, as: 'posted' | 'retry'): Promise<void> {
    if (as === 'posted') await this.save([payment])
    await this.log.append(as, payment, 'person')
    this.open = this.open.filter((other) => other !== payment)
  }

  async close(): Promise<void> {
    await this.log.close()
  }

  private async save(payments: Payment[]): Promise<void> {
    this.posted = [...this.posted, ...payments]
    await writeState(this.dir, this.posted)
  }
}
