// A program with the package in its `node_modules`.
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { promisify } from 'node:util'
import { directory } from './directory.mjs'
import { here, layOut } from './release.mjs'

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

/** The arguments of `unshare` that run a program in another root; skips the test, and returns nothing, if it may not. */
export async function inRoot(t: TestContext, path: string): Promise<string[] | undefined> {
  mkdirSync(join(path, 'proc'))
  const script = 'mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"'
  const within = (path: string) => ['--mount', 'sh', '-c', script, path]
  try {
    await promisify(execFile)('unshare', [...within('/'), 'true'])
    return within(path)
  } catch (error) {
    t.skip(`no root can be changed here: ${(error as Error).message.trim()}`)
    return undefined
  }
}
