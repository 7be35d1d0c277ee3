// Programs that are bundled, and the tools that do it.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'
import { here, layOut } from '../support/release.mjs'

interface Runtime {
  execPath?: string
  missing?: string
}

const { installBun, installBundlers, installNode } = await import(
  pathToFileURL(join(root, 'tools/bundlers.mjs')).href
)
const { modules, missing }: { modules?: string; missing?: string } = installBundlers()
export const node: Runtime = installNode()
export const bun: Runtime = installBun()

/** A test that skips if its tools cannot be installed. */
export function toolTest(title: string, run: (t: TestContext) => Promise<void> | void): void {
  const why =
    missing ??
    node.missing ??
    bun.missing ??
    (here === 'linux-x64-gnu' ? undefined : `the tests run on ${here}`)
  test(title, { skip: why ?? false }, run)
}

/** A file of a tool. */
export const file = (path: string): string => join(modules ?? '', path)

const PROGRAM = `import { acquireLock } from 'reconcile-lock'
const file = process.argv[2]
acquireLock({ file }).then(
  (lock) => {
    console.log('held')
    process.stdin.resume().once('end', () => lock.release())
  },
  (error) => console.log(error.code),
)
`

/** A project with a program that acquires the lock of its first argument, and with the package in `node_modules`. */
export function project(t: TestContext, parent?: string): string {
  const home = directory(t, parent)
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }))
  writeFileSync(join(home, 'app.js'), PROGRAM)
  layOut(home, here)
  return home
}

/** Runs a program of a tool in a project, and returns its output. */
export function build(cwd: string, args: string[], env: NodeJS.ProcessEnv = {}): string {
  const settings = {
    cwd,
    encoding: 'utf8',
    stdio: 'pipe',
    env: { ...process.env, ...env },
    timeout: 150_000,
  } as const
  return execFileSync(node.execPath ?? '', args, settings)
}

export interface Options {
  cwd?: string
  env?: NodeJS.ProcessEnv
  /** The lock file, if the program cannot reach the temporary directory. */
  lock?: string
}

/** Asserts that a program acquires, and that a second one is refused meanwhile. */
export async function excludes(t: TestContext, command: string, args: string[], options: Options = {}) {
  const { cwd, env, lock = join(directory(t), 'lock') } = options
  const start = () => {
    const settings = { cwd, env: { ...process.env, ...env }, timeout: 30_000 }
    const child = spawn(command, [...args, lock], { ...settings, stdio: 'pipe' })
    t.after(() => child.kill('SIGKILL'))
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text
    })
    const lines = createInterface(child.stdout)
    const ended = once(child, 'close')
    const line = Promise.race([once(lines, 'line').then(([text]) => text), ended.then(() => stderr)])
    return { child, line, ended }
  }
  const first = start()
  assert.equal(await first.line, 'held')
  const second = start()
  assert.equal(await second.line, 'E_LOCK_CONTENTION')
  second.child.stdin.end()
  first.child.stdin.end()
  assert.deepEqual(await Promise.all([first.ended, second.ended]), [
    [0, null],
    [0, null],
  ])
}
