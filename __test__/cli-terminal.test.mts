import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { test } from 'node:test'
import { acquireLockSync, inspectLockSync } from 'reconcile-lock'
import { bin, exists, shell, until } from './support/cli.mjs'
import { directory, MESSAGE } from './support/directory.mjs'
import { hasTerminal, Terminal } from './support/terminal.mjs'

const CTRL_C = '\x03'
const ERASE = '\r\x1b\\[2K'

test('on a terminal one line that rewrites itself says who is waited for', async (t) => {
  if (!hasTerminal(t)) return
  const cwd = directory(t)
  const lock = acquireLockSync(cwd)
  const terminal = new Terminal(t, shell(['run', '--wait', 'forever', '--', 'echo', 'it', 'ran']), cwd)
  const line = (time: string) =>
    new RegExp(`${ERASE}waiting for ${time}: process ${process.pid} on \\S+ has held the lock for \\d+ s`)
  await terminal.shows(line('0 s'))
  await terminal.shows(line('1 s'))
  await terminal.shows(line('2 s'))
  lock.releaseSync()
  await terminal.shows(new RegExp(`${ERASE}it ran`))
  assert.equal(await terminal.ends(), 0)
  assert.equal(terminal.screen.trim().split('\n').length, 1, JSON.stringify(terminal.screen))
})

test('Ctrl-C while waiting removes the line, ends by SIGINT and leaves the lock alone', async (t) => {
  if (!hasTerminal(t)) return
  const cwd = directory(t)
  const lock = acquireLockSync(cwd)
  const terminal = new Terminal(t, shell(['run', '--wait', 'forever', '--', 'touch', 'ran']), cwd)
  await terminal.shows(/waiting for 0 s/)
  terminal.type(CTRL_C)
  assert.equal(await terminal.ends(), 130)
  assert.match(terminal.screen, new RegExp(`${ERASE}$`), JSON.stringify(terminal.screen))
  assert.equal(lock.isHeld(), true)
  lock.releaseSync()
  assert.equal(inspectLockSync(cwd).state, 'free')
  assert.equal(existsSync(join(cwd, 'ran')), false)
})

test('Ctrl-C while running reaches the command once, and the lock is held until that has ended', async (t) => {
  if (!hasTerminal(t)) return
  const cwd = directory(t)
  const command = `
    let heard = 0
    const fs = require('node:fs')
    process.on('SIGINT', () => fs.writeFileSync('heard', String(++heard)))
    setInterval(() => { if (fs.existsSync('end')) process.exit(5) }, 10)
    fs.writeFileSync('ready', '')`
  const terminal = new Terminal(t, shell(['run', '--', process.execPath, '-e', command]), cwd)
  const heard = () => existsSync(join(cwd, 'heard')) && readFileSync(join(cwd, 'heard'), 'utf8')
  await until(exists(join(cwd, 'ready')))
  for (const times of ['1', '2']) {
    terminal.type(CTRL_C)
    await until(() => heard() === times)
    assert.equal(inspectLockSync(cwd).state, 'held')
  }
  writeFileSync(join(cwd, 'end'), '')
  assert.equal(await terminal.ends(), 5)
  assert.equal(heard(), '2')
  assert.equal(inspectLockSync(cwd).state, 'free')
})

test('Ctrl-C ends a command that does not mind it, and a script stops with it', async (t) => {
  if (!hasTerminal(t)) return
  const cwd = directory(t)
  const script = `${shell(['run', '--', 'sh', '-c', 'touch ready; sleep 30'])}; touch went-on`
  const terminal = new Terminal(t, `bash -c ${JSON.stringify(script)}`, cwd)
  await until(exists(join(cwd, 'ready')))
  terminal.type(CTRL_C)
  assert.equal(await terminal.ends(), 130)
  assert.equal(existsSync(join(cwd, 'went-on')), false)
  assert.equal(inspectLockSync(cwd).state, 'free')
})

test('on a terminal a refusal says who holds the lock', async (t) => {
  if (!hasTerminal(t)) return
  const cwd = directory(t)
  const lock = acquireLockSync(cwd)
  const terminal = new Terminal(t, shell(['run', '--', 'true']), cwd)
  assert.equal(await terminal.ends(), 75)
  const expected = new RegExp(
    `^${MESSAGE}\r\nprocess ${process.pid} on \\S+ has held the lock for \\d+ s\r\n$`,
  )
  assert.match(terminal.screen, expected)
  lock.releaseSync()
})

test('the line is cut to the width of the terminal', () => {
  const { fitting } = createRequire(import.meta.url)(join(bin, '../../cli/waiting-line.js'))
  assert.equal(fitting('abcdef', 7), 'abcdef')
  assert.equal(fitting('abcdef', 6), 'abcde', 'the last column would wrap')
  assert.equal(fitting('日本語', 6), '日本')
  assert.equal(fitting('a'.repeat(100)).length, 79)
})

test('durations are told as people tell them', () => {
  const { duration } = createRequire(import.meta.url)(join(bin, '../../cli/say.js'))
  const told = [-5, 999, 59_999, 72_000, 3_600_000, 3_661_000, 90_000_000].map(duration)
  assert.deepEqual(told, ['0 s', '0 s', '59 s', '1 min 12 s', '1 h 0 min', '1 h 1 min', '1 d 1 h'])
})
