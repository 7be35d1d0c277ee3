import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { acquireLock, inspectLock } from 'reconcile-lock'
import { accessToken } from '../src/token/access-token.js'
import { refresh } from '../src/token/authority.js'
import { appears, booked, dataDirectory, says, start, startTraced, tool } from './tool.js'

const limit = { timeout: 60_000 }
const file = '.xero-token-refresh.lock'

/** The requests to the authority in order, refused ones included. */
async function requests(dir: string): Promise<string[]> {
  const lines = (await readFile(join(dir, 'authority.jsonl'), 'utf8')).trimEnd().split('\n')
  return lines.map((line) => JSON.parse(line).by)
}

/** A directory with a login and an expired access token. */
async function expired(t: TestContext): Promise<string> {
  const dir = await dataDirectory(t, 3)
  await tool(t, 'ping', '--dir', dir)
  // On both sides, so that the service refuses the old token.
  for (const path of [join(dir, 'token.json'), join(dir, 'authority.jsonl')])
    await writeFile(path, (await readFile(path, 'utf8')).replace(/"expiresAt": ?\d+/g, '"expiresAt":0'))
  return dir
}

/** Runs commands that all wait for the lock before one of them can get a new token. */
async function together(t: TestContext, dir: string, commands: string[][]) {
  const gate = await acquireLock({ cwd: dir, file })
  const runs = commands.map((args) => startTraced(t, ...args, '--dir', dir))
  await Promise.all(runs.map((run) => says(run, ': waiting ')))
  await gate.release()
  const outcomes = await Promise.all(runs.map(({ outcome }) => outcome))
  return outcomes.map(({ code, stderr }) => ({
    code,
    complaints: stderr.replace(/^RECONCILE-LOCK .*\n/gm, ''),
  }))
}

/** A directory with the refresh lock of a command that was killed while it held it. */
async function killedWhileRefreshing(t: TestContext): Promise<string> {
  // On a busy machine a command may finish before it is killed.
  for (let attempt = 0; attempt < 30; attempt += 1) {
    const dir = await expired(t)
    const lock = { cwd: dir, file }
    const run = start(t, 'ping', '--dir', dir)
    while ((await inspectLock(lock)).state !== 'held' && run.child.exitCode === null) await setTimeout(2)
    run.child.kill('SIGKILL')
    await run.outcome
    if ((await inspectLock(lock)).state === 'stale') return dir
  }
  return assert.fail('no command was killed while it held the lock')
}

test('a stored token is used until it expires', limit, async (t) => {
  const dir = await dataDirectory(t, 1)
  for (let run = 0; run < 3; run += 1) assert.equal((await tool(t, 'ping', '--dir', dir)).code, 0)
  assert.deepEqual(await requests(dir), ['login'])
})

test('a token is refreshed in its last minute', limit, async (t) => {
  const dir = await dataDirectory(t, 1)
  await tool(t, 'ping', '--dir', dir)
  const path = join(dir, 'token.json')
  for (const [left, expected] of [
    [300_000, ['login']],
    [55_000, ['login', 'refresh']],
  ] as const) {
    const tokens = JSON.parse(await readFile(path, 'utf8'))
    await writeFile(path, JSON.stringify({ ...tokens, expiresAt: Date.now() + left }))
    assert.equal((await tool(t, 'ping', '--dir', dir)).code, 0)
    assert.deepEqual(await requests(dir), expected)
  }
})

test('nothing is posted without an accepted token', limit, async (t) => {
  const dir = await dataDirectory(t, 2)
  await tool(t, 'ping', '--dir', dir)
  const { refresh: used } = JSON.parse(await readFile(join(dir, 'token.json'), 'utf8'))
  // Using it twice ends the session.
  await refresh(dir, used)
  await refresh(dir, used)
  const { code, stderr } = await tool(t, '--execute', '--dir', dir)
  assert.equal(code, 1)
  assert.match(
    stderr,
    /^the accounting service does not accept our token; remove token\.json to log in again$/m,
  )
  assert.deepEqual(await booked(dir), [])
  await rm(join(dir, 'token.json'))
  assert.equal((await tool(t, 'ping', '--dir', dir)).code, 0)
})

test('concurrent commands share one refresh', limit, async (t) => {
  const dir = await expired(t)
  const outcomes = await together(t, dir, [...Array.from({ length: 8 }, () => ['ping']), ['--execute']])
  for (const outcome of outcomes) assert.deepEqual(outcome, { code: 0, complaints: '' })
  assert.deepEqual(await requests(dir), ['login', 'refresh'])
  assert.equal((await booked(dir)).length, 3)
  const records = ['accounting.jsonl', 'audit.log', 'authority.jsonl', 'state.json', 'token.json']
  // No lock file and no file of a waiter is left.
  assert.deepEqual((await readdir(dir)).sort(), [...records, 'bank.csv', 'invoices.csv'].sort())
})

test('concurrent first commands share one login', limit, async (t) => {
  const dir = await dataDirectory(t, 1)
  const outcomes = await together(
    t,
    dir,
    Array.from({ length: 8 }, () => ['ping']),
  )
  for (const outcome of outcomes) assert.deepEqual(outcome, { code: 0, complaints: '' })
  assert.deepEqual(await requests(dir), ['login'])
})

test('concurrent calls of one process share one refresh', limit, async (t) => {
  const dir = await expired(t)
  const tokens = await Promise.all(Array.from({ length: 8 }, () => accessToken(dir)))
  assert.equal(new Set(tokens).size, 1)
  assert.deepEqual(await requests(dir), ['login', 'refresh'])
})

test('a command killed during a refresh does not block others', limit, async (t) => {
  const dir = await killedWhileRefreshing(t)
  const { code, stderr } = await tool(t, 'ping', '--dir', dir)
  assert.equal(code, 0, stderr)
  assert.equal((await inspectLock({ cwd: dir, file })).state, 'free')
})

const noFifo = process.platform === 'win32' && 'Windows has no FIFO that blocks a command'

test('new tokens lost with a killed command cost one login', {
  ...limit,
  skip: noFifo,
}, async (t) => {
  const dir = await expired(t)
  const temporary = join(dir, 'token.json.tmp')
  // No process reads the FIFO: the command has new tokens and blocks when it stores them.
  execFileSync('mkfifo', [temporary])
  const killed = start(t, 'ping', '--dir', dir)
  await appears(killed, join(dir, 'authority.jsonl'), '"by":"refresh"')
  killed.child.kill('SIGKILL')
  await killed.outcome
  await rm(temporary)
  assert.equal((await inspectLock({ cwd: dir, file })).state, 'stale')
  const outcomes = await Promise.all([tool(t, 'ping', '--dir', dir), tool(t, '--execute', '--dir', dir)])
  for (const { code, stderr } of outcomes) assert.equal(code, 0, stderr)
  const said = outcomes.map(({ stderr }) => stderr).join('')
  assert.equal(said, 'the refresh token was refused (invalid_grant): logged in again\n')
  assert.deepEqual(await requests(dir), ['login', 'refresh', 'refresh', 'login'])
  assert.equal((await inspectLock({ cwd: dir, file })).state, 'free')
})

test('a valid token needs no lock', limit, async (t) => {
  const dir = await dataDirectory(t, 1)
  await tool(t, 'ping', '--dir', dir)
  const lock = await acquireLock({ cwd: dir, file })
  const { code, stderr } = await tool(t, '--execute', '--dir', dir)
  await lock.release()
  assert.equal(code, 0, stderr)
})

test('SIGTERM while waiting for a token posts nothing', limit, async (t) => {
  const dir = await expired(t)
  const lock = await acquireLock({ cwd: dir, file })
  const run = startTraced(t, '--execute', '--dir', dir)
  await says(run, ': waiting ')
  run.child.kill('SIGTERM')
  await lock.release()
  const { code, stderr } = await run.outcome
  assert.equal(code, 143, stderr)
  assert.deepEqual(await booked(dir), [])
})

test('a command exits 75 after waiting ten seconds', limit, async (t) => {
  const dir = await expired(t)
  const lock = await acquireLock({ cwd: dir, file })
  const started = performance.now()
  const { code, stderr } = await tool(t, '--execute', '--dir', dir)
  assert.ok(performance.now() - started >= 10_000)
  assert.deepEqual({ code, stderr }, { code: 75, stderr: 'Token refresh already in progress\n' })
  await lock.release()
  assert.doesNotMatch((await tool(t, 'status', '--dir', dir)).stdout, /a person has to check it|in progress/)
  assert.equal((await tool(t, '--execute', '--dir', dir)).code, 0)
  assert.equal((await booked(dir)).length, 3)
})

test('an invalid token file is reported and kept', limit, async (t) => {
  const dir = await dataDirectory(t, 1)
  for (const text of ['', '{', 'null', '{"access":1}']) {
    await writeFile(join(dir, 'token.json'), text)
    const { code, stderr } = await tool(t, 'ping', '--dir', dir)
    assert.equal(code, 65)
    assert.match(stderr, /^token\.json: /)
    assert.equal(await readFile(join(dir, 'token.json'), 'utf8'), text)
  }
})
