import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { TestContext } from 'node:test'
import { Peer } from './child.mjs'

const OPTIONS = ['--pid', '--fork', '--kill-child', '--mount-proc']

/** The command that starts another one in a pid namespace, or why that is not possible. */
function enter(): string[] | string {
  let said = ''
  // Without privileges, a user namespace provides them if the system allows that.
  for (const options of [OPTIONS, ['--user', '--map-root-user', ...OPTIONS]]) {
    const { status, stderr, error } = spawnSync('unshare', [...options, 'true'], { encoding: 'utf8' })
    if (status === 0) return ['unshare', ...options]
    said = stderr?.trim() || String(error)
  }
  return `no pid namespace can be made here: ${said}`
}

// `fork` of Deno passes its own arguments to the command, and does not reach the process behind it.
const entered = process.versions.deno ? 'Deno reaches no process that unshare has started' : enter()

/** Why there are no pid namespaces here. */
export const withoutNamespaces = typeof entered === 'string' && entered

const inside = typeof entered === 'string' ? [] : entered

/** A process that is pid 1 of a pid namespace of its own; `command` starts it. */
export const container = (t: TestContext, command: string[] = []) =>
  new Peer(t, { within: [...inside, ...command] })

/** Kills the only process of a namespace from outside; `unshare` ends when it has ended. */
export async function killContainer(container: Peer): Promise<void> {
  const { pid } = container.child
  const child = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8'))
  const exit = once(container.child, 'exit')
  process.kill(child, 'SIGKILL')
  await exit
}
