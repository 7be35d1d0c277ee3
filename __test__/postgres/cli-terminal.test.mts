// The command line with --postgres on a terminal.
import assert from 'node:assert/strict'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { Listener, shell } from '../support/cli.mjs'
import { directory } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { hasTerminal, Terminal } from '../support/terminal.mjs'
import { until } from '../support/time.mjs'
import { Database } from './database.mjs'

const ERASE = '\r\x1b\\[2K'

const asksOnTerminal: KnownFailure = {
  runtime: 'deno',
  why: 'Deno started by a shell asks for permissions on the terminal',
}

let database: Database
before(async () => {
  database = await Database.start()
})
after(() => database.postgres.stop())

/** A shell command that runs `args` under the lock. */
const run = (t: TestContext, ...args: string[]) => shell(database.words(t, 'run', ...args))

test(
  'a terminal shows the holder in one line while waiting',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const lock = await database.acquire(t)
    const terminal = new Terminal(t, run(t, '--wait', 'forever', '--', 'echo', 'it', 'ran'), cwd)
    const holder = `process ${process.pid} on \\S+ has held the lock for \\d+ s`
    const line = new RegExp(`${ERASE}waiting for \\d+ s: ${holder}`, 'g')
    await until(() => [...terminal.screen.matchAll(line)].length >= 3, 'the line is updated')
    await lock.release()
    await terminal.shows(new RegExp(`${ERASE}it ran`))
    assert.equal(await terminal.ends(), 0)
    assert.equal(terminal.screen.trim().split('\n').length, 1, JSON.stringify(terminal.screen))
  }),
)

test(
  'Ctrl-C while waiting removes the line and exits by SIGINT',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const lock = await database.acquire(t)
    const terminal = new Terminal(t, run(t, '--wait', 'forever', '--', 'touch', 'ran'), cwd)
    await terminal.shows(/waiting for 0 s/)
    terminal.type('\x03')
    assert.equal(await terminal.ends(), 130)
    // The terminal prints ^C after its signal, which the wrapper may have handled already.
    assert.match(terminal.screen, new RegExp(`${ERASE}(\\^C)?$`), JSON.stringify(terminal.screen))
    assert.equal(await database.state(t), 'held')
    await lock.release()
    assert.equal(existsSync(join(cwd, 'ran')), false)
  }),
)

test(
  'Ctrl-C reaches the command once and keeps its lock',
  knownFailure(asksOnTerminal, async (t) => {
    if (!hasTerminal(t)) return
    const cwd = directory(t)
    const listener = new Listener(cwd, ['SIGINT'])
    const terminal = new Terminal(t, run(t, '--', ...listener.command), cwd)
    await listener.pid()
    terminal.type('\x03')
    await listener.receives('SIGINT')
    assert.equal(await database.state(t), 'held')
    writeFileSync(join(cwd, 'end'), '')
    assert.equal(await terminal.ends(), 9)
    assert.equal(listener.received(), 'SIGINT')
    assert.equal(await database.state(t), 'free')
  }),
)
