import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { acquireLock, inspectLock } from 'reconcile-lock'
import { booked, dataDirectory, start, tool } from './tool.js'

const limit = { timeout: 60_000 }
const file = '.xero-token-refresh.lock'

/** How each token was granted, in order. */
async function grants(dir: string): Promise<string[]> {
  const lines = (await readFile(join(dir, 'authority.jsonl'), 'utf8')).trimEnd().split('\n')
  return lines.map((line) => JSON.parse(line).by)
}

/** A directory whose login is there and whose access token has ended. */
async function expired(t: TestContext): Promise<string> {
  const dir = await dataDirectory(t, 3)
  await tool(t, 'ping', '--dir', dir)
  const path = join(dir, 'token.json')
  const tokens = JSON.parse(await readFile(path, 'utf8'))
  await writeFile(path, JSON.stringify({ ...tokens, expiresAt: Date.now() }))
  return dir
}

test('a stored token is used until it ends', limit, async (t) => {
  const dir = await dataDirectory(t, 1)
  for (let run = 0; run < 3; run += 1) assert.equal((await tool(t, 'ping', '--dir', dir)).code, 0)
  assert.deepEqual(await grants(dir), ['login'])
})

test('of many commands at once that need a new token one refreshes, and all have it', limit, async (t) => {
  const dir = await expired(t)
  const pings = Array.from({ length: 8 }, () => tool(t, 'ping', '--dir', dir))
  const outcomes = await Promise.all([...pings, tool(t, '--execute', '--dir', dir)])
  for (const { code, stderr } of outcomes) assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  assert.deepEqual(await grants(dir), ['login', 'refresh'])
  assert.equal((await booked(dir)).length, 3)
  assert.equal((await inspectLock({ cwd: dir, file })).state, 'free')
})

test('of many first commands at once one logs in', limit, async (t) => {
  const dir = await dataDirectory(t, 1)
  const outcomes = await Promise.all(Array.from({ length: 8 }, () => tool(t, 'ping', '--dir', dir)))
  assert.deepEqual(new Set(outcomes.map(({ code }) => code)), new Set([0]))
  assert.deepEqual(await grants(dir), ['login'])
})

test('a command that was killed while it refreshed does not keep the next one waiting', limit, async (t) => {
  const dir = await expired(t)
  const killed = start(t, 'ping', '--dir', dir)
  while ((await inspectLock({ cwd: dir, file })).state !== 'held') assert.equal(killed.child.exitCode, null)
  killed.child.kill('SIGKILL')
  await killed.outcome
  const { code, stderr } = await tool(t, 'ping', '--dir', dir)
  assert.equal(code, 0, stderr)
})

test('who waits for ten seconds gives up, and says why; nothing is in doubt then', limit, async (t) => {
  const dir = await expired(t)
  const lock = await acquireLock({ cwd: dir, file })
  const started = performance.now()
  const { code, stderr } = await tool(t, '--execute', '--dir', dir)
  assert.ok(performance.now() - started >= 10_000)
  assert.deepEqual({ code, stderr }, { code: 75, stderr: 'Token refresh already in progress\n' })
  await lock.release()
  assert.doesNotMatch((await tool(t, 'status', '--dir', dir)).stdout, /needs a look|in progress/)
  assert.equal((await tool(t, '--execute', '--dir', dir)).code, 0)
  assert.equal((await booked(dir)).length, 3)
})

test('a token file that is none is told, and kept', limit, async (t) => {
  const dir = await dataDirectory(t, 1)
  for (const text of ['', '{', 'null', '{"access":1}']) {
    await writeFile(join(dir, 'token.json'), text)
    const { code, stderr } = await tool(t, 'ping', '--dir', dir)
    assert.equal(code, 65)
    assert.match(stderr, /^token\.json: /)
    assert.equal(await readFile(join(dir, 'token.json'), 'utf8'), text)
  }
})
