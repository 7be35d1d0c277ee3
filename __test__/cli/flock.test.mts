// The form of flock(1), and the lines of docs/migrating.md with flock(1) itself.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { delimiter, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLockSync, inspectLockSync } from 'reconcile-lock'
import { blocksOf } from '../support/blocks.mjs'
import { bin, cli, Running, read, waits } from '../support/cli.mjs'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'
import { sleep, until } from '../support/time.mjs'

test('options come before the lock file, words after it pass', (t) => {
  const cwd = directory(t)
  const print = ['sh', '-c', 'printf "%s\\n" "$*"', 'sh']
  for (const [args, printed] of [
    [['run', 'f', ...print, '-n', '--', '--help', '--file'], '-n -- --help --file'],
    [['run', 'f', '--', ...print, '-c'], '-c'],
    [['run', '-nE3', 'f', ...print, 'a b'], 'a b'],
    [['--wait', '1', 'run', '-xe', 'f', ...print], ''],
    [['run', '-w.5', 'f', '-c', 'echo $0 $#'], `${process.env.SHELL || '/bin/sh'} 0`],
    [['run', '--nb', 'f', '--command', 'echo a'], 'a'],
    [['run', '-c', 'echo b', 'f'], 'b'],
    [['run', '--file', 'f', '-c', 'echo d'], 'd'],
  ] as const) {
    const { code, stdout, stderr } = cli(cwd, [...args])
    assert.deepEqual([code, stdout, stderr], [0, `${printed}\n`, ''], args.join(' '))
    assert.equal(existsSync(join(cwd, 'f')), false)
  }
})

test('--command uses SHELL, or /bin/sh without it', (t) => {
  const cwd = directory(t)
  writeFileSync(join(cwd, 'shell'), '#!/bin/sh\necho "mine $*"\n', { mode: 0o755 })
  const shell = (SHELL: string) => {
    const env = { ...process.env, SHELL }
    return spawnSync(process.execPath, [bin, 'run', 'f', '-c', 'echo $0'], { cwd, env, encoding: 'utf8' })
      .stdout
  }
  assert.equal(shell(join(cwd, 'shell')), 'mine -c echo $0\n')
  assert.equal(shell(''), '/bin/sh\n')
})

test('a directory names its default lock file', (t) => {
  const cwd = directory(t)
  mkdirSync(join(cwd, 'ledger'))
  symlinkSync('ledger', join(cwd, 'link'), 'junction')
  for (const place of ['ledger', 'ledger/', 'ledger/.', 'ledger/../link', 'link/']) {
    const { stdout } = cli(cwd, ['run', place, 'ls', '-A', 'ledger'])
    assert.equal(stdout, '.xero-reconcile-lock.json\n', place)
  }
  for (const place of ['none/', 'none/f']) assert.equal(cli(cwd, ['run', place, 'true']).code, 73, place)
})

test('run leaves a file that is not a lock file', (t) => {
  const cwd = directory(t)
  writeFileSync(join(cwd, 'post.sh'), '#!/bin/sh\n')
  const { code, stderr } = cli(cwd, ['run', 'post.sh', 'true'])
  assert.deepEqual([code, read(join(cwd, 'post.sh'))], [73, '#!/bin/sh\n'], stderr)
})

test('-n does not wait, and -E sets the exit code', (t) => {
  const cwd = directory(t)
  const lock = acquireLockSync({ cwd, file: 'f' })
  const codes = [
    ['-n'],
    ['-n', '-w', 'forever'],
    ['-w', '0'],
    ['-n', '-E', '0'],
    ['-n', '-E', '255'],
    ['-w', '.1', '--conflict-exit-code=9'],
  ].map((options) => cli(cwd, ['run', ...options, 'f', 'touch', 'ran']).code)
  assert.deepEqual(codes, [75, 75, 75, 0, 255, 9])
  assert.equal(cli(cwd, ['run', '-E', '9', '--file', 'f', '--', 'touch', 'ran']).code, 9)
  lock.releaseSync()
  assert.equal(existsSync(join(cwd, 'ran')), false)
  assert.equal(cli(cwd, ['run', '-E', '9', 'f', 'sh', '-c', 'rm f']).code, 74, 'a loss is not a refusal')
})

test('the form of flock waits for the holder by default', async (t) => {
  const cwd = directory(t)
  const lock = acquireLockSync({ cwd, file: 'f' })
  const waiting = new Running(t, cwd, ['run', 'f', 'echo', 'ran'])
  await until(() => waits(waiting.child.pid), 'run waits')
  lock.releaseSync()
  assert.deepEqual(await waiting.ends(), { code: 0, signal: null, stdout: 'ran\n', stderr: '' })
})

test('--verbose reports the time of the acquire', (t) => {
  const cwd = directory(t)
  const { stderr } = cli(cwd, ['run', '--verbose', 'f', 'true'])
  assert.match(stderr, /^reconcile-lock: acquired \/\S+\/f after \d+ s\n$/)
})

/** Commands named `reconcile-lock` and `post.sh`, and a directory `ledger`. */
function prepare(t: TestContext): { cwd: string; env: NodeJS.ProcessEnv } {
  const cwd = directory(t)
  const path = join(cwd, 'bin')
  for (const name of [path, join(cwd, 'ledger')]) mkdirSync(name)
  symlinkSync(bin, join(path, 'reconcile-lock'))
  symlinkSync(process.execPath, join(path, 'node'))
  for (const name of ['post.sh', 'report.sh']) {
    writeFileSync(join(cwd, name), `#!/bin/sh\necho ${name} "$@" >> log\n`)
    chmodSync(join(cwd, name), 0o755)
  }
  return { cwd, env: { ...process.env, PATH: `${path}${delimiter}${process.env.PATH}`, SHELL: '/bin/sh' } }
}

const hasFlock = (t: TestContext): boolean => {
  const { stdout } = spawnSync('flock', ['--version'], { encoding: 'utf8' })
  if (stdout?.includes('util-linux')) return true
  t.skip('flock(1) of util-linux is not installed')
  return false
}

/** Runs a line in a shell to its end. */
async function outcome(line: string, where: ReturnType<typeof prepare>) {
  const child = spawn('sh', ['-c', line], { ...where, stdio: 'ignore' })
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  const log = join(where.cwd, 'log')
  const effect = read(log)
  if (existsSync(log)) unlinkSync(log)
  return { code: signal === null ? code : 143, effect }
}

/** The same while another process holds the lock; it releases when a line without a time limit waits. */
async function contended(t: TestContext, line: string, where: ReturnType<typeof prepare>, tool: string) {
  const target = line.includes('ledger') ? 'ledger' : 'payments.lock'
  const hold = [...tool.split(' '), target, 'sh', '-c', 'echo held; read line']
  const holder = spawn(hold[0] ?? '', hold.slice(1), { ...where, stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => holder.kill('SIGKILL'))
  const ended = once(holder, 'exit')
  await once(holder.stdout, 'data')
  let isOver = false
  const ending = outcome(line, where).then((end) => {
    isOver = true
    return end
  })
  if (!/ (-n|-xn|-w|--timeout) /.test(line)) {
    await sleep(300, 'a line without a time limit is still waiting')
    assert.equal(isOver, false, `${line} waits`)
    holder.stdin.end()
  }
  const end = await ending
  holder.stdin.end()
  await ended
  return end
}

const page = readFileSync(join(root, 'docs/migrating.md'), 'utf8')
const table = page
  .split('## From `flock(1)`')[1]
  ?.matchAll(/^\| `(flock .*?)` +\| `(reconcile-lock .*?)` +\| (.*?) +\|$/gm)
const rows = [...(table ?? [])].map(([, before = '', after = '', difference = '']) => ({
  before,
  after,
  difference,
}))

test('the table for flock(1) has its common forms', () => {
  assert.ok(rows.length >= 12)
  const literal = rows.filter(({ before, after }) => before.replace('flock', 'reconcile-lock run') === after)
  assert.ok(literal.length >= 10, 'word by word')
})

for (const { before, after, difference } of rows)
  test(`docs/migrating.md translates ${before}`, async (t) => {
    if (!hasFlock(t)) return
    const where = prepare(t)
    assert.deepEqual(await outcome(after, where), await outcome(before, where))
    const old = await contended(t, before, where, 'flock')
    const now = await contended(t, after, where, 'reconcile-lock run')
    if (difference.includes('75 instead of 1')) assert.deepEqual([old.code, now.code], [1, 75])
    else assert.equal(now.code, old.code)
    assert.equal(now.effect, old.effect)
  })

test('a refused run prints two lines, and flock(1) none', (t) => {
  if (!hasFlock(t)) return
  const where = prepare(t)
  const errors = (line: string) => spawnSync('sh', ['-c', line], { ...where, encoding: 'utf8' }).stderr
  assert.equal(errors('flock old.lock flock -n old.lock true'), '')
  const refused = errors('reconcile-lock run payments.lock reconcile-lock run -n payments.lock true')
  assert.equal(refused.split('\n').length - 1, 2)
  assert.match(page, /`flock` prints nothing\. `run` prints two lines on standard error/)
})

test('flock(1) and run exclude each other on one file', (t) => {
  if (!hasFlock(t)) return
  const { cwd, env } = prepare(t)
  const sh = (line: string) => spawnSync('sh', ['-c', line], { cwd, env }).status
  assert.equal(sh('flock payments.lock reconcile-lock run -n payments.lock true'), 75)
  assert.equal(sh('reconcile-lock run payments.lock flock -n payments.lock true'), 1)
})

const [before = '', after = '', script = ''] = blocksOf('docs/migrating.md', 'sh')
const [part = ''] = blocksOf('docs/migrating.md', 'bash')

for (const [what, shell, code] of [
  ['a descriptor', 'sh', before],
  ['a command line', 'sh', after],
  ['a function', 'bash', part],
] as const)
  test(`the migration page locks a part by ${what}`, async (t) => {
    if (!hasFlock(t)) return
    const { cwd, env } = prepare(t)
    const run = () => {
      const { status, stderr } = spawnSync(shell, ['-c', `month=11\n${code}`], { cwd, env, encoding: 'utf8' })
      return [status, read(join(cwd, 'log')), stderr]
    }
    const done = 'post.sh 11\nreport.sh 11\n'
    assert.deepEqual(run(), [0, done, ''])
    const holder = spawn('flock', ['payments.lock', 'sh', '-c', 'echo; read x'], {
      cwd,
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    t.after(() => holder.kill('SIGKILL'))
    await once(holder.stdout, 'data')
    const [status, log] = run()
    assert.deepEqual([status, log], [what === 'a descriptor' ? 1 : 75, done])
  })

test('parts of the migration page report failed commands alike', (t) => {
  if (!hasFlock(t)) return
  for (const errexit of ['', 'set -e\n']) {
    const outcomes = [
      ['sh', before],
      ['sh', errexit ? after.replace(' -c ', ' -ec ') : after],
      ['bash', errexit ? part.replace(' -c ', ' -ec ') : part],
    ].map(([shell = '', code]) => {
      const { cwd, env } = prepare(t)
      writeFileSync(join(cwd, 'post.sh'), '#!/bin/sh\nexit 3\n')
      const { status } = spawnSync(shell, ['-c', `${errexit}month=11\n${code}`], { cwd, env })
      return [status, read(join(cwd, 'log'))]
    })
    const expected = errexit ? [3, ''] : [0, 'report.sh 11\n']
    assert.deepEqual(outcomes, [expected, expected, expected])
  }
})

test('the first run takes over the empty file of flock(1)', (t) => {
  if (!hasFlock(t)) return
  const { cwd } = prepare(t)
  spawnSync('flock', ['payments.lock', 'true'], { cwd })
  for (const reported of [true, false]) {
    const { code, stderr } = cli(cwd, ['run', '-n', 'payments.lock', 'true'])
    assert.deepEqual([code, stderr.includes('took over')], [0, reported], stderr)
  }
})

test('docs/migrating.md locks a whole script', async (t) => {
  const { cwd, env } = prepare(t)
  writeFileSync(join(cwd, 'whole.sh'), `#!/bin/sh -u\n${script}\necho "$@" >> log\nread x\nexit 3\n`, {
    mode: 0o755,
  })
  const first = spawn('./whole.sh', ['a', 'b c'], { cwd, env, stdio: ['pipe', 'ignore', 'inherit'] })
  const ended = once(first, 'exit')
  t.after(() => first.kill('SIGKILL'))
  await until(() => read(join(cwd, 'log')) === 'a b c\n', 'the script runs')
  assert.equal(inspectLockSync({ cwd, file: 'whole.sh.lock' }).state, 'held')
  symlinkSync('whole.sh', join(cwd, 'link.sh'))
  for (const name of ['./whole.sh', './link.sh']) assert.equal(spawnSync(name, { cwd, env }).status, 75)
  first.stdin.end()
  assert.deepEqual(await ended, [3, null])
  assert.equal(read(join(cwd, 'log')), 'a b c\n')
})
