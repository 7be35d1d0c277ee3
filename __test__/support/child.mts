import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { AcquireOptions, Holder } from 'reconcile-lock'
import { publicExecPath, publicPath } from './public-copy.mjs'

const peer = fileURLToPath(new URL('peer.mjs', import.meta.url))

export interface Answer {
  ok: boolean
  name?: string
  message?: string
  code?: string
  syscall?: string | undefined
  path?: string | undefined
  holder?: Holder | undefined
  reason?: string | undefined
  value?: unknown
}

export interface Command {
  do: 'acquire' | 'release' | 'inspect' | 'break' | 'force' | 'exit' | 'throw' | 'end' | 'forget'
  lock?: 'native' | 'legacy'
  cwd: string
  /** Further options, for the calls of this package. */
  options?: Pick<AcquireOptions, 'durable' | 'file' | 'legacy' | 'mode' | 'shared' | 'timeout'>
  /** The `Date.now()` at which to start, so that many processes start together. */
  at?: number
}

export interface PeerOptions {
  uid?: number
  /** Default: `uid`. */
  gid?: number
  umask?: number
  execArgv?: string[]
  /** A command and its options that start the process, such as `unshare`. */
  within?: string[]
}

/** Another process that acquires and releases on command. */
export class Peer {
  readonly child: ChildProcess

  constructor(t: TestContext, options: PeerOptions = {}) {
    const { uid, gid = uid, umask, execArgv = [], within = [] } = options
    const env = { ...process.env, PEER_UMASK: umask === undefined ? '' : String(umask) }
    const node = uid === undefined ? process.execPath : publicExecPath()
    const [execPath = '', ...args] = [...within, node, ...execArgv]
    // `unshare` prints a message when its process is killed.
    const stderr = within.length > 0 ? 'ignore' : 'inherit'
    this.child = fork(uid === undefined ? peer : publicPath(peer), {
      env,
      execPath,
      execArgv: args,
      stdio: ['inherit', 'inherit', stderr, 'ipc'],
      ...(uid === undefined ? {} : { uid, gid }),
    })
    t.after(() => {
      this.child.kill('SIGKILL')
      // A process behind `within` can survive that, and ends with its channel.
      if (this.child.connected) this.child.disconnect()
    })
  }

  async ask(command: Command): Promise<Answer> {
    const answer = nextMessage<Answer>(this.child)
    this.child.send(command)
    return answer
  }

  acquire(cwd: string, lock: 'native' | 'legacy' = 'native'): Promise<Answer> {
    return this.ask({ do: 'acquire', lock, cwd })
  }

  /** Sends a signal or a command that ends the process, and waits for that end. */
  async ends(how: NodeJS.Signals | Command): Promise<number | null> {
    const exit = once(this.child, 'exit')
    if (typeof how === 'string') this.child.kill(how)
    else this.child.send(how)
    const [code] = (await exit) as [number | null]
    return code
  }
}

/** The next message of a process; rejects if the process ends without it. */
export async function nextMessage<T>(child: ChildProcess): Promise<T> {
  const over = new AbortController()
  const { signal } = over
  // Its exit may be noticed before its last message, the end of the channel may not.
  const ended = once(child, 'disconnect', { signal }).then(() => {
    throw new Error(`process ${child.pid} has ended without a message`)
  })
  try {
    const [message] = await Promise.race([once(child, 'message', { signal }), ended])
    return message
  } finally {
    over.abort()
  }
}

/** Signals a child that stays alive: `ChildProcess.kill` of Deno closes the channel for any signal. */
export function send(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) throw new Error('the child was never started')
  process.kill(child.pid, signal)
}
