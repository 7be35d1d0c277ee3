import { join } from 'node:path'
import { parseBank, type Transaction } from './csv/bank.js'
import { type Invoice, parseInvoices } from './csv/invoices.js'
import { readText } from './csv/table.js'

/** The two files that a run works on. */
export async function readInput(dir: string): Promise<{ transactions: Transaction[]; invoices: Invoice[] }> {
  const [bank, invoices] = ['bank.csv', 'invoices.csv'] as const
  return {
    transactions: parseBank(await readText(join(dir, bank)), bank),
    invoices: parseInvoices(await readText(join(dir, invoices)), invoices),
  }
}
