// The tools that bundle programs.
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { root } from '../support/packages.mjs'
import { here } from '../support/release.mjs'

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
