// Clients of the stress test: each acquires, writes with its token and releases, until a message stops it.
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { type PostgresLock, postgresLocks } from 'reconcile-lock/postgres'
import { kindOf, type Message, type Plan } from './stress.mjs'
import { ATTEMPT } from './tokens.mjs'

const plan = JSON.parse(process.argv[2] ?? '') as Plan
let isStopped = false

const send = (message: Message): Promise<unknown> =>
  new Promise((resolve) => process.send?.(message, undefined, undefined, resolve))
const upTo = (most: number): number => Math.floor(Math.random() * most)

function oneOf<T>(values: readonly T[]): T {
  return values[upTo(values.length)] as T
}

/** Without waiting, waiting, or waiting until an abort. */
const ways = {
  once: () => ({ timeout: 0 }),
  wait: () => ({ timeout: 30_000 }),
  abort: () => ({ timeout: 30_000, signal: AbortSignal.timeout(upTo(300)) }),
}

/** The program's own connection, which outlives the session of the lock. */
class Ledger {
  #client: pg.Client | undefined

  async write(token: bigint, client: string): Promise<boolean> {
    this.#client ??= await this.#connect()
    const { rows } = await this.#client.query<{ isAccepted: boolean }>(ATTEMPT, [token, client])
    return rows[0]?.isAccepted ?? false
  }

  async #connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: plan.url, application_name: 'ledger' })
    client.on('error', () => {})
    await client.connect()
    return client
  }

  close(): void {
    void this.#client?.end()
  }
}

/** Writes a few times, also after the loss of the lock; returns how many writes were refused. */
async function work(ledger: Ledger, token: bigint, client: string): Promise<number> {
  let refused = 0
  for (let write = 0; write < plan.writes; write += 1) {
    if (!(await ledger.write(token, client))) refused += 1
    await delay(upTo(4))
  }
  return refused
}

async function hold(lock: PostgresLock, ledger: Ledger, client: string): Promise<void> {
  const { name, token } = lock
  const isTakenOver = lock.takenOver !== undefined
  await send({ acquired: { name, token: String(token), isTakenOver } })
  if (Math.random() < plan.falls) process.kill(process.pid, 'SIGKILL')
  const working = work(ledger, token, client)
  await working.catch(() => {})
  const end = await lock.release().then(() => 'released', kindOf)
  await send({ end: { refused: await working, how: end } })
}

async function contend(client: string): Promise<void> {
  const locks = postgresLocks({ connectionString: plan.url })
  const ledger = new Ledger()
  while (!isStopped) {
    const way = oneOf(plan.ways)
    try {
      const lock = await locks.acquireLock({ name: oneOf(plan.names), ...ways[way]() })
      await hold(lock, ledger, client)
    } catch (error) {
      await send({ error: kindOf(error) })
      // A refused client pauses before its next attempt.
      await delay(upTo(20))
    }
  }
  ledger.close()
  await locks.close()
}

/** Writes without a lock, with an invented token. */
async function intrude(client: string): Promise<void> {
  const ledger = new Ledger()
  for (; !isStopped; await delay(upTo(4))) await ledger.write(BigInt(Date.now()) * 1000n, client)
  ledger.close()
}

process.once('message', () => {
  isStopped = true
})
// The parent has ended, so no message will stop this process.
process.once('disconnect', () => process.exit())
const act = plan.takesLocks ? contend : intrude
await Promise.all(Array.from({ length: plan.clients }, (_, index) => act(`${process.pid}-${index}`)))
process.disconnect()
