import { type ChildProcess, fork } from 'node:child_process'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { LockStatus } from 'reconcile-lock'
import { nextMessage } from '../support/child.mjs'

const bystander = fileURLToPath(new URL('bystander-process.mjs', import.meta.url))

/** What an inspector has read, or how often a breaker has called breakLock. */
export interface Seen {
  count: number
  states: Partial<Record<LockStatus['state'], number>>
  /** The pids of all holders. */
  holders: number[]
}

/** Processes that inspect or break a lock as often as they can. */
export class Bystanders {
  private constructor(private readonly children: ChildProcess[]) {}

  static async start(
    t: TestContext,
    count: number,
    what: 'inspect' | 'break',
    cwd: string,
  ): Promise<Bystanders> {
    const children = Array.from({ length: count }, () => fork(bystander, [what, cwd]))
    t.after(() => {
      for (const child of children) if (child.exitCode === null) child.kill('SIGKILL')
    })
    await Promise.all(children.map((child) => nextMessage(child)))
    return new Bystanders(children)
  }

  /** Ends the processes and returns what each has seen. */
  end(): Promise<Seen[]> {
    return Promise.all(
      this.children.map(async (child) => {
        const answer = nextMessage<Seen>(child)
        child.send('end')
        const seen = await answer
        child.disconnect()
        return seen
      }),
    )
  }
}
