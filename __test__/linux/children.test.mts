// Children that outlive a parent with locks, started in every way that Node.js has.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { acquireLockSync } from 'reconcile-lock'
import { deadPid, directory, leave } from '../support/directory.mjs'
import { begun } from '../support/program.mjs'

const childProcess = JSON.stringify(fileURLToPath(new URL('child-process.mjs', import.meta.url)))

/** Expressions for the pids of children and grandchildren, or for a promise of them. */
const ways = {
  'a detached child': "[spawn('sleep', ['60'], { detached: true, stdio: 'ignore' }).pid]",
  'an stdio-inheriting child': "[spawn('sleep', ['60'], { stdio: 'inherit' }).pid]",
  'a piped child': "[spawn('sleep', ['60'], { stdio: 'pipe' }).pid]",
  'an exec child': "pidsSaid(exec('sleep 60 & echo $! $$; wait'))",
  'an execFile child': "pidsSaid(execFile('sleep 60 & echo $! $$; wait', { shell: true }))",
  'a forked child': `pidsSent(fork(${childProcess}))`,
  'a detached fork': `pidsSent(fork(${childProcess}, { detached: true, stdio: 'ignore' }))`,
  'a cluster worker': `(cluster.setupPrimary({ exec: ${childProcess} }), pidsSent(cluster.fork().process))`,
}

const program = (pids: string) => `
  const { exec, execFile, fork, spawn } = require('node:child_process')
  const cluster = require('node:cluster')
  const { once } = require('node:events')
  const pidsSent = async (child) => (await once(child, 'message'))[0]
  const pidsSaid = async (child) => String((await once(child.stdout, 'data'))[0]).trim().split(' ')
  lock.acquireLockSync(cwd)
  if (!lock.acquireLockSync({ cwd, file: 'taken.lock' }).takenOver) throw new Error('it was not taken over')
  const isWaiting = new Promise((onWait) => lock.acquireLock({ cwd, file: 'waited.lock', timeout: Infinity, onWait }))
  process.on('SIGUSR2', () => process.exit(0))
  isWaiting.then(() => ${pids}).then((pids) => console.log(pids.join(' ')))`

const isAlive = (pid: number) =>
  existsSync(`/proc/${pid}/stat`) && !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))

function killedAfter(t: TestContext, pid: number): void {
  t.after(() => isAlive(pid) && process.kill(pid, 'SIGKILL'))
}

/** The file of a descriptor; empty if a runtime that is still starting has closed it. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}

/** The open files that a process can only have inherited from a parent with locks. */
function inherited(pid: number, cwd: string): string[] {
  const open = readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`))
  // Not by its executable, which is the emulator if the runtime is emulated.
  const isNode = /\.[cm]?js\b/.test(readFileSync(`/proc/${pid}/cmdline`, 'latin1'))
  return open.filter((path) => path.startsWith(cwd) || (!isNode && path.startsWith('anon_inode:')))
}

for (const [child, pids] of Object.entries(ways)) {
  for (const end of ['SIGKILL', 'SIGUSR2'] as const) {
    const which = end === 'SIGKILL' ? 'a killed' : 'an exited'
    test(`${child} does not keep a lock of ${which} parent`, async (t) => {
      const cwd = directory(t)
      leave(cwd, { pid: deadPid(), createdAt: 1 }, 60, 'taken.lock')
      const waitedFor = acquireLockSync({ cwd, file: 'waited.lock' })
      const [parent, line] = await begun(t, cwd, program(pids))
      const children = line.split(' ').map(Number)
      assert.ok(children.length > 0 && children.every((pid) => pid > 1), line)
      for (const pid of children) killedAfter(t, pid)
      for (const pid of children) assert.deepEqual(inherited(pid, cwd), [])
      const ended = once(parent, 'exit')
      parent.kill(end)
      await ended
      assert.ok(children.every(isAlive), 'the children outlive the parent')
      for (const file of [undefined, 'taken.lock']) {
        const lock = acquireLockSync({ cwd, file })
        const left = end === 'SIGKILL' ? parent.pid : undefined
        assert.equal(lock.takenOver?.holder?.pid, left)
        lock.releaseSync()
      }
      waitedFor.releaseSync()
      assert.deepEqual(readdirSync(cwd), [])
      assert.ok(children.every(isAlive), 'the children still run')
    })
  }
}

test('the check finds a descriptor that a child inherited', async (t) => {
  const cwd = directory(t)
  const body = `
    const { openSync } = require('node:fs')
    const { spawn } = require('node:child_process')
    const { path } = lock.acquireLockSync(cwd)
    console.log(spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', openSync(path)] }).pid)`
  const [, line] = await begun(t, cwd, body)
  killedAfter(t, Number(line))
  assert.equal(inherited(Number(line), cwd).length, 1)
})
