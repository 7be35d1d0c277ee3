import { once } from 'node:events'
import type { TestContext } from 'node:test'
import { Worker } from 'node:worker_threads'
import type { Holder } from 'reconcile-lock'
import { root } from './packages.mjs'

export interface Task {
  do:
    | 'acquire'
    | 'acquireSync'
    | 'wait'
    | 'waitSync'
    | 'release'
    | 'listeners'
    | 'nest'
    | 'loop'
    | 'loopSync'
    | 'count'
    | Ending
  cwd: string
  /** The counter of `count`. */
  counter?: SharedArrayBuffer
}

/** How a thread ends by itself. */
export type Ending = 'end' | 'exit' | 'throw' | 'reject' | 'exit within an exit'

export interface Reply {
  thread: number
  value?: unknown
  code?: string
  holder?: Holder
}

const program = new URL('thread-program.mjs', import.meta.url)

/** A worker thread that acquires and releases on command, with the package from `home`. */
export class Thread {
  readonly worker: Worker
  readonly #exit: Promise<number>
  /** The error that ended the thread. */
  failure: Error | undefined

  constructor(t: Pick<TestContext, 'after'>, home = root) {
    this.worker = new Worker(program, { workerData: home })
    this.worker.on('error', (error: Error) => {
      this.failure = error
    })
    this.#exit = new Promise((resolve) => this.worker.once('exit', resolve))
    t.after(() => this.worker.terminate())
  }

  get id(): number {
    return this.worker.threadId
  }

  /** Sends a task. The reply to a wait comes when the wait begins. */
  ask(what: Exclude<Task['do'], Ending>, cwd: string, counter?: SharedArrayBuffer): Promise<Reply> {
    const answer = this.says()
    this.worker.postMessage({ do: what, cwd, ...(counter && { counter }) } satisfies Task)
    return answer
  }

  /** The next reply, such as the end of a wait. */
  async says(): Promise<Reply> {
    const ended = this.#exit.then((code) => {
      throw this.failure ?? new Error(`the thread has ended with ${code}, and said nothing`)
    })
    const [reply] = (await Promise.race([once(this.worker, 'message'), ended])) as [Reply]
    return reply
  }

  /** Ends the thread and returns its exit code. */
  async ends(how: Ending | 'terminate'): Promise<number> {
    if (how === 'terminate') await this.worker.terminate()
    else this.worker.postMessage({ do: how, cwd: '' } satisfies Task)
    return this.#exit
  }
}
