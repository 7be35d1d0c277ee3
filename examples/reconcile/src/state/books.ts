import { AuditLog, readAudit } from './audit-log.js'
import { check } from './check.js'
import type { Payment } from './payment.js'
import { readState, writeState } from './state-file.js'

/** State file and audit log together, kept in step. Only the lock's holder may have them. */
export class Books {
  private constructor(
    private readonly dir: string,
    private readonly log: AuditLog,
    private posted: Payment[],
    private open: Payment[],
  ) {}

  /** Opens both and mends what one of them proves about the other. */
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

  /** Payments of which nobody knows whether they arrived. */
  get unsettled(): readonly Payment[] {
    return this.open
  }

  /** What must not be posted: it is, or it may be. */
  get settledOrDoubtful(): Payment[] {
    return [...this.posted, ...this.open]
  }

  /** Posts one payment by `send`. Killed anywhere in it, the run leaves an intent that the next one sees. */
  async post(payment: Payment, send: (payment: Payment) => Promise<void>): Promise<void> {
    await this.log.append('intent', payment)
    await send(payment)
    await this.save([payment])
    await this.log.append('posted', payment)
  }

  /** Settles a doubtful payment as a person has found it to be. */
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
