// The command inherits the kernel lock of `run`, and keeps it until it ends if only `run` is killed.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLock, acquireLockSync, inspectLockSync, resolveLockPath } from 'reconcile-lock'
import { cli, publicProgram, Running, read, shell, waits } from '../support/cli.mjs'
import { directory, MESSAGE, readRecord } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { sleep, until } from '../support/time.mjs'
import { processState } from '../support/waiter.mjs'

const COMMAND = ['sh', '-c', 'echo $$ > command; exec sleep 60']

const isAlive = (pid: number) => existsSync(`/proc/${pid}`) && processState(pid) !== 'Z'

/** Waits for the pid that a command writes to a file; the process is killed after the test. */
async function pidIn(t: TestContext, file: string): Promise<number> {
  await until(() => Number(read(file)) > 0, `a pid is in ${file}`)
  const pid = Number(read(file))
  t.after(() => isAlive(pid) && process.kill(pid, 'SIGKILL'))
  return pid
}

/** Starts a run and kills it while its command continues. */
async function orphan(t: TestContext, cwd: string, options: string[] = []) {
  const running = new Running(t, cwd, ['run', ...options, '--', ...COMMAND])
  const command = await pidIn(t, join(cwd, 'command'))
  const pid = Number(running.child.pid)
  running.child.kill('SIGKILL')
  await until(() => !existsSync(`/proc/${pid}`), 'run has ended')
  assert.ok(isAlive(command))
  return { pid, command }
}

const inheritedReason = (pid: number) =>
  `process ${pid} ended, but its command, or another process that inherited its lock, still runs`

test('a command keeps the lock after SIGKILL of run', async (t) => {
  const cwd = directory(t)
  const { pid, command } = await orphan(t, cwd)
  const path = resolveLockPath(cwd)

  const refused = cli(cwd, ['run', '--', 'touch', 'ran'])
  assert.equal(refused.code, 75)
  const [message, holder] = refused.stderr.split('\n')
  assert.equal(message, MESSAGE)
  const host = readRecord(path).host
  assert.match(
    holder ?? '',
    new RegExp(
      `^reconcile-lock: ${path} is held by process ${pid} on ${host} for \\d+ s: ${inheritedReason(pid)}$`,
    ),
  )
  assert.equal(existsSync(join(cwd, 'ran')), false)

  const status = cli(cwd, ['status'])
  assert.deepEqual([status.code, status.stdout], [1, `${path}: held: ${inheritedReason(pid)}\n`])
  const { state, holder: named, reason } = JSON.parse(cli(cwd, ['status', '--json']).stdout)
  assert.deepEqual([state, named.pid, reason], ['held', pid, inheritedReason(pid)])

  const kept = cli(cwd, ['break'])
  assert.deepEqual([kept.code, kept.stdout], [75, ''])
  assert.match(
    kept.stderr,
    new RegExp(`^${MESSAGE}\nreconcile-lock: \\S+ was not removed: ${inheritedReason(pid)}; --force`),
  )
  assert.throws(() => acquireLockSync(cwd), { code: 'E_LOCK_CONTENTION', reason: inheritedReason(pid) })

  process.kill(command, 'SIGKILL')
  await until(() => inspectLockSync(cwd).state === 'stale', 'the lock is stale')
  const next = cli(cwd, ['run', '--', 'true'])
  assert.equal(next.code, 0)
  assert.match(
    next.stderr,
    new RegExp(`took over the stale lock .* of process ${pid} .*ended without releasing\n$`),
  )
})

test('status reports that a reader ended and its command runs', async (t) => {
  const cwd = directory(t)
  const reader = new Running(t, cwd, ['run', '-s', 'f', 'sh', '-c', 'echo $$; exec sleep 60'])
  await until(() => /\d\n/.test(reader.stdout), 'the command runs')
  const { pid } = reader.child
  t.after(() => process.kill(Number(reader.stdout), 'SIGKILL'))
  reader.child.kill('SIGKILL')
  await until(() => !existsSync(`/proc/${pid}`), 'run has ended')
  const reason = inheritedReason(pid ?? 0)
  assert.match(cli(cwd, ['status', '--file', 'f']).stdout, new RegExp(`/f: held: ${reason}\n$`))
  assert.match(cli(cwd, ['run', '-n', 'f', 'true']).stderr, new RegExp(`/f is held: ${reason}\n$`))
})

test('a command without a terminal outlives SIGKILL of the group', async (t) => {
  const cwd = directory(t)
  const running = new Running(t, cwd, ['run', '--', ...COMMAND], ['setsid'])
  const command = await pidIn(t, join(cwd, 'command'))
  const pid = Number(running.child.pid)
  process.kill(-pid, 'SIGKILL')
  await until(() => !existsSync(`/proc/${pid}`), 'run has ended')
  assert.ok(isAlive(command))
  assert.equal(inspectLockSync(cwd).reason, inheritedReason(pid))
})

test('break --force removes the lock that a command keeps', async (t) => {
  const cwd = directory(t)
  const { command } = await orphan(t, cwd)
  assert.equal(cli(cwd, ['break', '--force']).code, 0)
  assert.equal(cli(cwd, ['run', '--', 'true']).code, 0)
  assert.ok(isAlive(command), 'the command is not stopped')
})

test('a command does not inherit the lock with --close', async (t) => {
  const cwd = directory(t)
  const { pid } = await orphan(t, cwd, ['--close'])
  assert.match(inspectLockSync(cwd).reason, new RegExp(`^process ${pid} ended without releasing$`))
  assert.equal(cli(cwd, ['run', '--', 'true']).code, 0)
})

/** Prints the open descriptors of its parent: numbers and targets. */
const DESCRIPTORS = `
  const { readdirSync, readlinkSync } = require('node:fs')
  const home = '/proc/' + process.ppid + '/fd/'
  console.log(JSON.stringify(readdirSync(home).map((number) => [Number(number), readlinkSync(home + number)])))`

test(
  'a command inherits one descriptor, with a number above 9',
  knownFailure(
    { runtime: 'bun', why: 'Bun has so few files open that the number of the lock is below 10' },
    (t) => {
      const cwd = directory(t)
      writeFileSync(join(cwd, 'descriptors.cjs'), DESCRIPTORS)
      const opened = (...options: string[]): [number, string][] => {
        const command = ['sh', '-c', '"$@"; exit', 'sh', process.execPath, 'descriptors.cjs']
        const { code, stdout, stderr } = cli(cwd, ['run', ...options, '--', ...command])
        assert.equal(code, 0, stderr)
        return JSON.parse(stdout)
      }
      const others = opened('--close').map(([number]) => number)
      const [lock, ...more] = opened().filter(([number]) => !others.includes(number))
      assert.deepEqual([lock?.[1], more], [resolveLockPath(cwd), []])
      assert.ok(Number(lock?.[0]) > 9, 'a shell script can redirect those up to 9')
    },
  ),
)

test(
  'the command inherits descriptors above 15, not 3 to 15',
  knownFailure(
    [
      { runtime: 'bun', why: 'Bun passes on no descriptor of the shell' },
      { runtime: 'deno', why: 'Deno passes on every descriptor of the shell' },
    ],
    (t) => {
      const cwd = directory(t)
      const command = 'for n in 3 9 15 200; do if test -e /proc/$$/fd/$n; then echo $n; fi; done'
      const reached = (redirection: string) => {
        const line = `exec 3>a 9>a 15>a 200>a; ${shell(['run', 'f', 'sh', '-c', command])} ${redirection}`
        return spawnSync('bash', ['-c', line], { cwd, encoding: 'utf8' }).stdout
      }
      assert.equal(reached(''), '200\n')
      assert.equal(reached('200>&-'), '')
    },
  ),
)

test('a command has the hard limit of open files', (t) => {
  const line = `ulimit -Sn 256; ulimit -Hn 512; ${shell(['run', 'f', 'sh', '-c', 'ulimit -Sn; ulimit -Hn'])}`
  const { stdout, stderr } = spawnSync('bash', ['-c', line], { cwd: directory(t), encoding: 'utf8' })
  assert.equal(stdout, '512\n512\n', stderr)
})

/** The processor time that a process has used, in milliseconds: `utime` and `stime` of proc(5). */
function used(pid: number | undefined): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

for (const [when, comesFirst] of [
  ['before', true],
  ['after', false],
] as const) {
  test(`waiters from ${when} SIGKILL of run acquire after the command`, async (t) => {
    const cwd = directory(t)
    const starts = () =>
      [1, 2].map(() => new Running(t, cwd, ['run', '--wait', 'forever', '--', 'sh', '-c', 'date +%s%N']))
    const running = new Running(t, cwd, ['run', '--', ...COMMAND])
    const command = await pidIn(t, join(cwd, 'command'))
    const kills = async () => {
      running.child.kill('SIGKILL')
      await until(() => !existsSync(`/proc/${running.child.pid}`), 'run has ended')
    }
    if (!comesFirst) await kills()
    const waiters = starts()
    await until(() => waiters.every(({ child }) => waits(child.pid)), 'both wait')
    if (comesFirst) await kills()
    const before = waiters.map(({ child }) => used(child.pid))
    await sleep(2000, 'the processor time of the waiters is measured')
    const shares = waiters.map(({ child }, index) => (used(child.pid) - (before[index] ?? 0)) / 2000)
    assert.ok(Math.max(...shares) < 0.1, `a share of ${shares} of a processor`)
    t.diagnostic(`the waiters use ${shares} of a processor`)
    const ended = BigInt(Date.now()) * 1_000_000n
    process.kill(command, 'SIGKILL')
    const ends = await Promise.all(waiters.map((waiter) => waiter.ends()))
    for (const { code, stderr } of ends) assert.equal(code, 0, stderr)
    const late = ends.map(({ stdout }) => Number((BigInt(stdout) - ended) / 1_000_000n))
    t.diagnostic(`the waiters' commands ran ${late} ms after the end`)
    assert.ok(Math.min(...late) >= 0 && Math.min(...late) < 1000, `${late} ms`)
  })
}

/** Makes a run a zombie: its parent does not wait for it. */
async function zombie(t: TestContext, cwd: string): Promise<number> {
  const script = `${shell(['run', '--', ...COMMAND])} & echo $! > run; exec sleep 60`
  const parent: ChildProcess = spawn('sh', ['-c', script], { cwd, stdio: 'ignore' })
  t.after(() => parent.kill('SIGKILL'))
  const pid = await pidIn(t, join(cwd, 'run'))
  await pidIn(t, join(cwd, 'command'))
  await until(() => read(`/proc/${parent.pid}/comm`) === 'sleep\n', 'the shell has become sleep')
  process.kill(pid, 'SIGKILL')
  await until(() => processState(pid) === 'Z', 'run is a zombie')
  return pid
}

test('status and waiters treat a zombie run as ended', async (t) => {
  const cwd = directory(t)
  const pid = await zombie(t, cwd)
  // Its threads end and close its files a moment later.
  await until(() => inspectLockSync(cwd).reason === inheritedReason(pid), 'status reports that run ended')
  const waiter = new Running(t, cwd, ['run', '--wait', 'forever', '--', 'true'])
  await until(() => waits(waiter.child.pid), 'the waiter waits')
  process.kill(Number(read(join(cwd, 'command'))), 'SIGKILL')
  assert.equal((await waiter.ends()).code, 0)
})

test('a waiter does not wait for a reused pid', async (t) => {
  const cwd = directory(t)
  const { command } = await orphan(t, cwd)
  const path = resolveLockPath(cwd)
  const record = { ...readRecord(path), pid: process.pid, startTime: 1 }
  writeFileSync(path, JSON.stringify(record).padEnd(511).concat('\n'))
  assert.equal(inspectLockSync(cwd).state, 'held')
  const waiter = new Running(t, cwd, ['run', '--wait', 'forever', '--', 'true'])
  await until(() => waits(waiter.child.pid), 'the waiter waits')
  process.kill(command, 'SIGKILL')
  assert.equal((await waiter.ends()).code, 0)
})

test('a daemon does not keep the lock after a release', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('only root can start a run of another user')
  const cwd = directory(t)
  const inner = join(cwd, 'inner')
  mkdirSync(inner)
  chmodSync(inner, 0o777)
  const daemon = 'sleep 60 >/dev/null 2>&1 & echo $! > daemon; chmod 555 .'
  const within = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups']
  spawnSync('chown', ['65534', inner])
  const running = new Running(t, inner, ['run', '--', 'sh', '-c', daemon], within, publicProgram())
  const { code, stderr } = await running.ends()
  assert.deepEqual([code, stderr], [0, ''])
  assert.ok(isAlive(await pidIn(t, join(inner, 'daemon'))))
  assert.equal(inspectLockSync(inner).state, 'free')
  await (await acquireLock(inner)).release()
})

test('run holds the lock for setsid --wait', (t) => {
  if (spawnSync('setsid', ['--wait', 'true']).status !== 0) return t.skip('setsid has no option --wait')
  const cwd = directory(t)
  const command = ['sh', '-c', 'sleep 0.3; cp f copy; exit 7']
  assert.equal(cli(cwd, ['run', 'f', 'setsid', '--wait', ...command]).code, 7)
  assert.equal(existsSync(join(cwd, 'copy')), true)
})
