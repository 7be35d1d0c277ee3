import { type ChildProcess, fork } from 'node:child_process'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { LockStatus } from 'reconcile-lock'
import { nextMessage } from '../support/child.mjs'

const poller = fileURLToPath(new URL('poller-process.mjs', import.meta.url))

/** The results of an inspector, or the number of calls of a breaker. */
export interface Observed {
  count: number
  states: Partial<Record<LockStatus['state'], number>>
  /** The pids of all holders. */
  holders: number[]
}

/** Processes that inspect or break a lock again and again. */
export class Pollers {
  private constructor(private readonly children: ChildProcess[]) {}

  static async start(
    t: TestContext,
    count: number,
    what: 'inspect' | 'break',
    cwd: string,
  ): Promise<Pollers> {
    const children = Array.from({ length: count }, () => fork(poller, [what, cwd]))
    t.after(() => {
      for (const child of children) if (child.exitCode === null) child.kill('SIGKILL')
    })
    await Promise.all(children.map((child) => nextMessage(child)))
    return new Pollers(children)
  }

  /** Ends the processes and returns the results of each. */
  end(): Promise<Observed[]> {
    return Promise.all(
      this.children.map(async (child) => {
        const answer = nextMessage<Observed>(child)
        child.send('end')
        const observed = await answer
        child.disconnect()
        return observed
      }),
    )
  }
}
