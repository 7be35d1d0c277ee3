import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { directory } from './directory.mjs'

const home = fileURLToPath(new URL('../../../dist/index.js', import.meta.url))

export interface End {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Writes a program in which `lock` is the package and `cwd` the directory of its lock. */
export function written(t: TestContext, cwd: string, body: string): string {
  const file = join(directory(t), 'program.cjs')
  const head = `const lock = require(${JSON.stringify(home)})\nconst cwd = ${JSON.stringify(cwd)}\n`
  writeFileSync(file, `${head}${body}`)
  return file
}

/** Runs a program to its end. */
export function ended(t: TestContext, cwd: string, body: string, execArgv: string[] = []): End {
  const args = [...execArgv, written(t, cwd, body)]
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    timeout: 60_000,
  })
  return { code: status, signal, stdout, stderr }
}

/** Starts a program and waits for the first line that it prints. */
export async function begun(t: TestContext, cwd: string, body: string): Promise<[ChildProcess, string]> {
  const child = spawn(process.execPath, [written(t, cwd, body)], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.exitCode === null && child.signalCode === null && child.kill('SIGKILL'))
  const [line] = await once(child.stdout, 'data')
  return [child, String(line).trim()]
}
