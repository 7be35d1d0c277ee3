import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'

const bystander = fileURLToPath(new URL('../fixtures/bystander.mjs', import.meta.url))

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
    await Promise.all(children.map((child) => once(child, 'message')))
    return new Bystanders(children)
  }

  /** Ends them, and tells how often they did it. */
  async end(): Promise<number> {
    const counts = this.children.map(async (child) => {
      const answer = once(child, 'message')
      child.send('end')
      return Number((await answer)[0])
    })
    return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0)
  }
}
