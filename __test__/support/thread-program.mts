// Executes the tasks of a test in a worker thread. `workerData` is the directory of the package.
import { setImmediate as turn } from 'node:timers/promises'
import { parentPort, threadId, workerData } from 'node:worker_threads'
import type { LockError } from 'reconcile-lock'
import { loaded } from './packages.mjs'
import { type Reply, type Task, Thread } from './thread.mjs'

const lock = loaded(workerData)
const port = parentPort
if (!port) throw new Error('this is for worker threads')
const reply = (about: Omit<Reply, 'thread'> = {}) =>
  port.postMessage({ thread: threadId, ...about } satisfies Reply)

/** Increments the counter a hundred times; only the lock makes each read and write atomic. */
async function count(cwd: string, counter: Int32Array): Promise<void> {
  for (let round = 0; round < 100; round += 1) {
    await using _ = await lock.acquireLock({ cwd, timeout: Number.POSITIVE_INFINITY })
    const before = counter[0] ?? 0
    if (round % 10 === 0) await turn()
    counter[0] = before + 1
  }
}

async function act({ do: what, cwd, counter }: Task): Promise<void> {
  const waiting = { cwd, timeout: Number.POSITIVE_INFINITY, onWait: () => reply() }
  switch (what) {
    case 'acquire':
      return reply({ holder: (await lock.acquireLock(cwd)).holder })
    case 'acquireSync':
      return reply({ holder: lock.acquireLockSync(cwd).holder })
    case 'wait':
      return reply({ holder: (await lock.acquireLock(waiting)).holder })
    case 'waitSync':
      return reply({ holder: lock.acquireLockSync(waiting).holder })
    case 'release':
      await lock.releaseLock(cwd)
      return reply()
    case 'listeners':
      return reply({ value: process.listenerCount('exit') })
    case 'nest':
      return reply(await new Thread({ after() {} }, workerData).ask('acquire', cwd))
    case 'loop':
      for (reply(); ; ) await lock.withLock(() => {}, { cwd, timeout: Number.POSITIVE_INFINITY })
    case 'loopSync':
      for (reply(); ; ) lock.acquireLockSync({ cwd, timeout: Number.POSITIVE_INFINITY }).releaseSync()
    case 'count':
      await count(cwd, new Int32Array(counter ?? new ArrayBuffer(4)))
      return reply()
    case 'end':
      return port?.unref()
    case 'exit':
      return process.exit(3)
    case 'exit within an exit':
      process.prependListener('exit', () => process.exit(4))
      return process.exit(3)
    case 'throw':
      setImmediate(() => {
        throw new Error('on purpose')
      })
      return
    case 'reject':
      Promise.reject(new Error('on purpose'))
  }
}

port.on('message', (task: Task) => {
  act(task).catch(({ code, holder }: LockError) => reply({ code, ...(holder && { holder }) }))
})
