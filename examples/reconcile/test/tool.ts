import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../src/main.js', import.meta.url))

export interface Outcome {
  code: number | null
  stdout: string
  stderr: string
}

export interface Run {
  child: ChildProcess
  /** The output so far. */
  output: { stdout: string; stderr: string }
  outcome: Promise<Outcome>
}

/** A data directory with invoices INV-1 to INV-`count`, each paid by one transaction. */
export async function dataDirectory(t: TestContext, count: number): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'reconcile-test-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const numbers = Array.from({ length: count }, (_, index) => index + 1)
  const bank = numbers.map((n) => `T-${n},2026-01-01,${n}.00,"INV-${n}, thanks"\n`)
  const invoices = numbers.map((n) => `INV-${n},Customer ${n},${n}.00\n`)
  await writeFile(join(dir, 'bank.csv'), `id,date,amount,text\n${bank.join('')}`)
  await writeFile(join(dir, 'invoices.csv'), `number,customer,amount\n${invoices.join('')}`)
  return dir
}

/** Starts the tool; the end of the test kills it. */
export function start(t: TestContext, ...args: string[]): Run {
  return launch(t, args, process.env)
}

/** Like `start`, with the events of locks on standard error, in lines that begin with RECONCILE-LOCK. */
export function startTraced(t: TestContext, ...args: string[]): Run {
  return launch(t, args, { ...process.env, NODE_DEBUG: 'reconcile-lock' })
}

function launch(t: TestContext, args: string[], env: NodeJS.ProcessEnv): Run {
  const child = spawn(process.execPath, [main, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
  t.after(() => child.kill('SIGKILL'))
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (chunk: string) => {
      output[name] += chunk
    })
  return { child, output, outcome: once(child, 'close').then(() => ({ code: child.exitCode, ...output })) }
}

export function tool(t: TestContext, ...args: string[]): Promise<Outcome> {
  return start(t, ...args).outcome
}

/** The invoices that the accounting service has booked, in order. */
export async function booked(dir: string): Promise<string[]> {
  const text = await readFile(join(dir, 'accounting.jsonl'), 'utf8').catch(() => '')
  return text
    .split('\n')
    .filter((line) => line !== '')
    .flatMap((line) => (JSON.parse(line) as { invoice?: string }).invoice ?? [])
}

/** Polls a file until it contains `text`; fails if the run ends before. */
export async function appears(run: Run, path: string, text: string): Promise<void> {
  while (!(await readFile(path, 'utf8').catch(() => '')).includes(text)) await stillRuns(run)
}

/** Polls a run until it has printed `text` on standard error; fails if it ends before. */
export async function says(run: Run, text: string): Promise<void> {
  while (!run.output.stderr.includes(text)) await stillRuns(run)
}

async function stillRuns(run: Run): Promise<void> {
  if (run.child.exitCode !== null || run.child.signalCode !== null)
    throw new Error(`the run ended early: ${(await run.outcome).stderr}`)
  await setTimeout(5)
}
