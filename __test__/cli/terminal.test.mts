import assert from 'node:assert/strict'
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { acquireLockSync, inspectLockSync } from 'reconcile-lock'
import { duration } from '../../lib/cli/output.js'
import { fitting } from '../../lib/cli/waiting-line.js'
import { bin, cli, exists, hasHandledAll, hideProc, Listener, read, shell, waits } from '../support/cli.mjs'
import { directory, leave } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { lostStop } from '../support/qemu.mjs'
import { attach, cannotAttach } from '../support/strace.mjs'
import { hasTerminal, quoted, SHELL, Terminal } from '../support/terminal.mjs'
import { sleep, until } from '../support/time.mjs'
import { processState } from '../support/waiter.mjs'

const asksOnTerminal: KnownFailure = {
  runtime: 'deno',
  why: 'Deno asks for permissions on the terminal if a shell starts it',
}

const CTRL_C = '\x03'
const CTRL_BACKSLASH = '\x1c'
const CTRL_Z = '\x1a'
const PROMPT = /ready> $/
const ERASE = '\r\x1b\\[2K'

test(
  'a wait shows one updated line on a terminal',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const lock = acquireLockSync(cwd)
    const terminal = new Terminal(t, shell(['run', '--wait', 'forever', '--', 'echo', 'it', 'ran']), cwd)
    const line = new RegExp(
      `${ERASE}waiting for (\\d+) s: held for \\d+ s by process ${process.pid} \\(`,
      'g',
    )
    const times = () => [...terminal.screen.matchAll(line)].map(([, time]) => Number(time))
    await until(() => Math.max(...times()) >= 2, 'the line is updated')
    assert.equal(times()[0], 0)
    lock.releaseSync()
    await terminal.shows(new RegExp(`${ERASE}it ran`))
    assert.equal(await terminal.ends(), 0)
    assert.equal(terminal.screen.trim().split('\n').length, 1, JSON.stringify(terminal.screen))
  }),
)

test(
  'a wait times out while its inspection hangs',
  knownFailure(asksOnTerminal, async (t) => {
    const why = await cannotAttach()
    if (why) return t.skip(why)
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const lock = acquireLockSync(cwd)
    const command = `echo process $$; exec ${shell(['run', '--wait', '3', '--', 'true'])}`
    const terminal = new Terminal(t, `sh -c ${quoted([command])}`, cwd)
    const pid = Number((await terminal.shows(/process (\d+)/))[1])
    await terminal.shows(/waiting for 0 s/)
    const calls = 'openat,newfstatat,statx'
    const inject = ['-e', `trace=${calls}`, '-e', `inject=${calls}:delay_enter=${20_000_000}`]
    const detach = await attach(pid, ['-f', '-P', lock.path, ...inject])
    t.after(() => detach('SIGKILL'))
    await terminal.shows(/Another reconcile run is in progress/)
    const before = performance.now()
    // Its main thread; strace keeps the one that hangs.
    await until(() => processState(pid) === 'Z', 'its main thread has ended')
    assert.ok(performance.now() - before < 1000)
    assert.ok(readdirSync(`/proc/${pid}/task`).length > 1, 'an inspection hangs')
    lock.releaseSync()
  }),
)

test(
  'Ctrl-C ends a wait and clears its line',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const lock = acquireLockSync(cwd)
    const terminal = new Terminal(t, shell(['run', '--wait', 'forever', '--', 'touch', 'ran']), cwd)
    await terminal.shows(/waiting for 0 s/)
    terminal.type(CTRL_C)
    assert.equal(await terminal.ends(), 130)
    // The terminal shows ^C after its signal, which the wrapper may have handled already.
    assert.match(terminal.screen, new RegExp(`${ERASE}(\\^C)?$`), JSON.stringify(terminal.screen))
    assert.equal(lock.isHeld(), true)
    lock.releaseSync()
    assert.equal(inspectLockSync(cwd).state, 'free')
    assert.equal(existsSync(join(cwd, 'ran')), false)
  }),
)

test(
  'Ctrl-C reaches the command once while run holds the lock',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const listener = new Listener(cwd, ['SIGINT', 'SIGQUIT'])
    const terminal = new Terminal(t, shell(['run', '--', ...listener.command]), cwd)
    t.after(() => t.diagnostic(`the screen: ${JSON.stringify(terminal.screen)}`))
    await listener.pid()
    const typed: string[] = []
    for (const [key, signal] of [
      [CTRL_C, 'SIGINT'],
      [CTRL_C, 'SIGINT'],
      [CTRL_BACKSLASH, 'SIGQUIT'],
    ] as const) {
      terminal.type(key)
      typed.push(signal)
      await listener.receives(typed.join())
      assert.equal(inspectLockSync(cwd).state, 'held')
    }
    writeFileSync(join(cwd, 'end'), '')
    assert.equal(await terminal.ends(), 9)
    assert.equal(listener.received(), typed.join())
    assert.equal(inspectLockSync(cwd).state, 'free')
  }),
)

test(
  'on a terminal run passes on SIGTERM but not SIGINT',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const listener = new Listener(cwd, ['SIGINT', 'SIGQUIT', 'SIGTERM'])
    const terminal = new Terminal(t, shell(['run', '--', ...listener.command]), cwd)
    const wrapper = Number(/^PPid:\s*(\d+)$/m.exec(read(`/proc/${await listener.pid()}/status`))?.[1])
    for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM'] as const) {
      process.kill(wrapper, signal)
      await until(() => hasHandledAll(wrapper), `run handles ${signal}`)
    }
    await listener.receives('SIGTERM')
    terminal.type(CTRL_C)
    await listener.receives('SIGTERM,SIGINT')
    writeFileSync(join(cwd, 'end'), '')
    assert.equal(await terminal.ends(), 9)
    const { stdout } = cli(cwd, ['run', '--help'])
    assert.match(stdout, /does not pass on SIGINT, SIGQUIT, SIGTSTP,\s+SIGCONT and SIGWINCH/)
  }),
)

test(
  'Ctrl-C reaches a command in its own process group',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    // It leaves the foreground group, and handles SIGINT.
    const command = ['timeout', '20', 'sh', '-c', 'touch ready; exec sleep 20']
    const terminal = new Terminal(t, shell(['run', '--', ...command]), cwd)
    await until(exists(join(cwd, 'ready')), 'the command runs')
    terminal.type(CTRL_C)
    assert.equal(await terminal.ends(), 130)
    assert.equal(inspectLockSync(cwd).state, 'free')
  }),
)

/** As sigwait(3): SIGINT stays blocked and has no handler, but at the moment when it is taken. */
const WAIT_FOR_SIGNAL = `
  use POSIX;
  my $set = POSIX::SigSet->new(SIGINT);
  sigprocmask(SIG_BLOCK, $set);
  my $taken = 0;
  sub record { open(my $file, '>', 'taking'); print $file $taken; close($file); rename('taking', 'taken') }
  record();
  until (-e 'end') {
    my $pending = POSIX::SigSet->new;
    sigpending($pending);
    if ($pending->ismember(SIGINT)) {
      local $SIG{INT} = sub { $taken++ };
      sigprocmask(SIG_UNBLOCK, $set);
      sigprocmask(SIG_BLOCK, $set);
      record();
    }
    select(undef, undef, undef, 0.0002);
  }`

test(
  'Ctrl-C reaches a command that waits for it once',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    if (spawnSync('perl', ['-MPOSIX', '-e', '0']).status !== 0) return t.skip('perl is not installed')
    const cwd = directory(t)
    const terminal = new Terminal(t, shell(['run', '--', 'perl', '-e', WAIT_FOR_SIGNAL]), cwd)
    const taken = () => read(join(cwd, 'taken'))
    await until(() => taken() === '0', 'the command waits')
    // More than once: two signals that arrive together count as one.
    for (const count of ['1', '2', '3', '4', '5']) {
      terminal.type(CTRL_C)
      await until(() => taken() !== String(Number(count) - 1), `the command takes the signal ${count}`)
      await sleep(200, 'a second copy of the signal would come')
      assert.equal(taken(), count)
    }
    writeFileSync(join(cwd, 'end'), '')
    assert.equal(await terminal.ends(), 0)
  }),
)

test(
  'Ctrl-C just before the command starts is not lost',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    // The signal arrives when only the wrapper exists.
    const early = `
    const processes = require('node:child_process')
    const { spawn } = processes
    processes.spawn = (...args) => {
      process.kill(process.pid, 'SIGINT')
      return spawn(...args)
    }`
    writeFileSync(join(cwd, 'early.cjs'), early)
    const args = ['--require', join(cwd, 'early.cjs'), bin, 'run', '--', 'sleep', '10']
    const terminal = new Terminal(t, quoted([process.execPath, ...args]), cwd)
    assert.equal(await terminal.ends(), 130)
    assert.equal(inspectLockSync(cwd).state, 'free')
  }),
)

for (const handled of [[], ['SIGTSTP', 'SIGCONT']] as NodeJS.Signals[][]) {
  const kind = handled.length > 0 ? 'with' : 'without'
  test(
    `Ctrl-Z and fg reach a command ${kind} listeners once`,
    knownFailure([asksOnTerminal, lostStop], async (t) => {
      if (!hasTerminal(t)) return
      const cwd = directory(t)
      const listener = new Listener(cwd, [...handled, 'SIGINT'])
      const terminal = new Terminal(t, SHELL, cwd)
      await terminal.shows(PROMPT)
      terminal.type(`${shell(['run', '--', ...listener.command])}\n`)
      const pid = await listener.pid()
      const handledSoFar: NodeJS.Signals[] = []
      // More than once: two signals that arrive together count as one.
      for (let round = 0; round < 5; round += 1) {
        const before = terminal.screen.length
        terminal.type(CTRL_Z)
        await terminal.shows(/Stopped.*ready> $/s, before)
        assert.equal(inspectLockSync(cwd).state, 'held')
        // SIGCONT would discard a SIGTSTP that the command has not handled yet.
        if (handled.length === 0) await until(() => processState(pid) === 'T', 'the command is stopped')
        else await listener.receives([...handledSoFar, 'SIGTSTP'].join())
        terminal.type('fg\n')
        handledSoFar.push(...handled)
        await listener.receives(handledSoFar.join())
        await until(() => processState(pid) !== 'T', 'the command continues')
      }
      terminal.type(CTRL_C)
      await listener.receives([...handledSoFar, 'SIGINT'].join())
      writeFileSync(join(cwd, 'end'), '')
      await terminal.shows(/\^C.*ready> $/s)
      terminal.type('exit $?\n')
      assert.equal(await terminal.ends(), 9)
      assert.equal(listener.received(), [...handledSoFar, 'SIGINT'].join())
      assert.equal(inspectLockSync(cwd).state, 'free')
    }),
  )
}

test(
  'a new size of the terminal reaches the command once',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const listener = new Listener(cwd, ['SIGWINCH'])
    const terminal = new Terminal(t, shell(['run', '--', ...listener.command]), cwd, 80, 'tty > tty;')
    await listener.pid()
    const sent: string[] = []
    // More than once: two signals that arrive together count as one.
    for (const columns of ['90', '100', '110', '120', '130']) {
      execFileSync('stty', ['-F', read(join(cwd, 'tty')).trim(), 'cols', columns])
      sent.push('SIGWINCH')
      await listener.receives(sent.join())
    }
    writeFileSync(join(cwd, 'end'), '')
    assert.equal(await terminal.ends(), 9)
    assert.equal(listener.received(), sent.join())
  }),
)

test(
  'Ctrl-Z clears the line of a wait, fg restores it',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const lock = acquireLockSync(cwd)
    const terminal = new Terminal(t, SHELL, cwd)
    await terminal.shows(PROMPT)
    terminal.type(`${shell(['run', '--wait', 'forever', '--', 'echo', 'it', 'ran'])}\n`)
    await terminal.shows(/waiting for 0 s/)
    terminal.type(CTRL_Z)
    // The terminal shows ^Z after its signal, before or after the wrapper handles that.
    await terminal.shows(new RegExp(`${ERASE}(\\^Z)?\\s+\\[1\\]\\+\\s+Stopped.*ready> $`, 's'))
    const before = terminal.screen.length
    terminal.type('fg\n')
    await until(() => terminal.screen.includes('waiting for', before), 'the line is back')
    lock.releaseSync()
    await terminal.shows(new RegExp(`${ERASE}it ran\\s+ready> $`))
    terminal.type('exit $?\n')
    assert.equal(await terminal.ends(), 0)
  }),
)

test(
  'a wait in the background does not use the terminal',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const lock = acquireLockSync(cwd)
    const terminal = new Terminal(t, SHELL, cwd)
    await terminal.shows(PROMPT)
    // With tostop, a background process that writes to the terminal is stopped.
    terminal.type(`stty tostop; ${shell(['run', '--wait', 'forever', '--', 'echo', 'it', 'ran'])} &\n`)
    const [, pid] = await terminal.shows(/\[1\] (\d+).*ready> $/s)
    await until(() => waits(Number(pid)), 'run waits')
    await sleep(500, 'in the foreground, the line would be shown by then')
    assert.doesNotMatch(terminal.screen, /waiting for|Stopped/, 'no output before fg')
    assert.notEqual(processState(Number(pid)), 'T', 'it was not stopped by an output')
    terminal.type('fg\n')
    await terminal.shows(/waiting for \d+ s/)
    lock.releaseSync()
    await terminal.shows(/it ran\s+ready> $/)
    terminal.type('exit\n')
    assert.equal(await terminal.ends(), 0)
  }),
)

test(
  'the line is shown on a terminal of unknown size',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const lock = acquireLockSync(cwd)
    const terminal = new Terminal(t, shell(['run', '--wait', 'forever', '--', 'true']), cwd, 0)
    await terminal.shows(new RegExp(`${ERASE}waiting for 0 s: held for \\d+ s by process ${process.pid} `))
    lock.releaseSync()
    assert.equal(await terminal.ends(), 0)
  }),
)

test(
  'a wait on a dumb terminal writes no escape sequences',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const lock = acquireLockSync(cwd)
    const terminal = new Terminal(t, shell(['run', '--wait', '0.5', '--', 'true']), cwd, 80, 'TERM=dumb;')
    assert.equal(await terminal.ends(), 75)
    assert.match(terminal.screen, /^Another reconcile run /)
    assert.equal(terminal.screen.includes('\x1b'), false, JSON.stringify(terminal.screen))
    lock.releaseSync()
  }),
)

test(
  'a host name of a record cannot break the line',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    // A legacy record of a live process is held without a kernel lock.
    leave(cwd, { pid: process.pid, createdAt: Date.now(), host: '\x1b[2J\n\r\x9b日本語'.repeat(5) })
    const terminal = new Terminal(t, shell(['run', '--wait', '1.5', '--', 'true']), cwd)
    assert.equal(await terminal.ends(), 75)
    const lines = terminal.screen.split(new RegExp(ERASE)).filter((text) => text.startsWith('waiting for'))
    assert.ok(lines.length > 0, terminal.screen)
    for (const line of lines) {
      assert.match(line, /^waiting for \d s: process \d+ on [\x20-\x7e日本語]+$/, 'printable')
      const columns = [...line].reduce((sum, character) => sum + (character > '~' ? 2 : 1), 0)
      assert.ok(columns < 80, `${columns} columns: ${line}`)
    }
  }),
)

test(
  'Ctrl-C ends run and the script around it',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const script = `${shell(['run', '--', 'sh', '-c', 'touch ready; sleep 30'])}; touch went-on`
    const terminal = new Terminal(t, `bash -c ${JSON.stringify(script)}`, cwd)
    await until(exists(join(cwd, 'ready')), 'the command runs')
    terminal.type(CTRL_C)
    assert.equal(await terminal.ends(), 130)
    assert.equal(existsSync(join(cwd, 'went-on')), false)
    assert.equal(inspectLockSync(cwd).state, 'free')
  }),
)

test(
  'run without its terminal exits as its command does',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const command = `trap '' HUP; touch ready; while test -e "$PWD" && ! test -e gone; do sleep 0.05; done; exit 7`
    const line = `trap '' HUP; ${shell(['run', 'f', 'sh', '-c', command])}; echo $? > code`
    const args = ['-q', '-c', `sh -c ${quoted([line])}`, '/dev/null']
    const script = spawn('script', args, { cwd, stdio: ['pipe', 'ignore', 'inherit'] })
    t.after(() => script.kill('SIGKILL'))
    await until(exists(join(cwd, 'ready')), 'the command runs')
    script.kill('SIGKILL')
    await once(script, 'exit')
    writeFileSync(join(cwd, 'gone'), '')
    await until(() => read(join(cwd, 'code')) !== '', 'run has ended')
    assert.equal(read(join(cwd, 'code')), '7\n')
  }),
)

test(
  'run without its terminal exits 73 after an error',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const lock = acquireLockSync({ cwd, file: 'f' })
    // A background job gets no SIGHUP.
    const job = shell(['run', '--wait', 'forever', 'f', 'true'])
    const line = `trap '' HUP; set -m; ${job} & echo $! > pid; wait $!; echo $? > code`
    const args = ['-q', '-c', `bash -c ${quoted([line])}`, '/dev/null']
    const script = spawn('script', args, { cwd, stdio: ['pipe', 'ignore', 'inherit'] })
    t.after(() => script.kill('SIGKILL'))
    await until(() => waits(Number(read(join(cwd, 'pid')))), 'run waits')
    script.kill('SIGKILL')
    await once(script, 'exit')
    symlinkSync('/nowhere', join(cwd, 'link'))
    renameSync(join(cwd, 'link'), lock.path)
    await until(() => read(join(cwd, 'code')) !== '', 'run has ended')
    assert.equal(read(join(cwd, 'code')), '73\n')
  }),
)

test(
  'Ctrl-C reaches a command once without /proc',
  knownFailure(
    [asksOnTerminal, { runtime: 'bun', why: 'Bun does not start the command without /proc' }],
    async (t) => {
      if (!hasTerminal(t)) return
      const [command = '', ...rest] = hideProc
      const tried = spawnSync(command, [...rest, 'true'], { encoding: 'utf8' })
      if (tried.status !== 0)
        return t.skip(`/proc cannot be hidden here: ${tried.stderr?.trim() || tried.error}`)
      const cwd = directory(t)
      const listener = new Listener(cwd, ['SIGINT'])
      const words = [...hideProc, process.execPath, bin, 'run', '--', ...listener.command]
      const terminal = new Terminal(t, `sh -c ${quoted([`exec ${quoted(words)} < /dev/null`])}`, cwd)
      await listener.pid()
      for (const received of ['SIGINT', 'SIGINT,SIGINT', 'SIGINT,SIGINT,SIGINT']) {
        terminal.type(CTRL_C)
        await listener.receives(received)
        await sleep(200, 'a second copy would come')
        assert.equal(listener.received(), received)
      }
      writeFileSync(join(cwd, 'end'), '')
      assert.equal(await terminal.ends(), 9)
    },
  ),
)

test('the line is cut to the width of the terminal', () => {
  assert.equal(fitting('abcdef', 7), 'abcdef')
  assert.equal(fitting('abcdef', 6), 'abcde', 'the last column would wrap')
  assert.equal(fitting('日本語', 6), '日本')
  assert.equal(fitting('a'.repeat(100), 80).length, 79)
})

test('durations have two units at most', () => {
  const texts = [-5, 999, 59_999, 72_000, 3_600_000, 3_661_000, 90_000_000].map(duration)
  assert.deepEqual(texts, ['0 s', '0 s', '59 s', '1 min 12 s', '1 h 0 min', '1 h 1 min', '1 d 1 h'])
})
