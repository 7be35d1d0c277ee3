import assert from 'node:assert/strict'
import { test } from 'node:test'
import { accepts, login, refresh } from '../src/token/authority.js'
import { dataDirectory } from './tool.js'

test('a refresh returns new tokens and keeps the old access', async (t) => {
  const dir = await dataDirectory(t, 0)
  const first = await login(dir)
  const second = await refresh(dir, first.refresh)
  assert.ok(second && second.access !== first.access && second.refresh !== first.refresh)
  assert.ok(await accepts(dir, second.access))
  assert.ok(await accepts(dir, first.access))
  assert.equal(await accepts(dir, 'made up'), false)
})

test('an expired access token is refused', async (t) => {
  const dir = await dataDirectory(t, 0)
  const { access, expiresAt } = await login(dir)
  const now = t.mock.method(Date, 'now', () => expiresAt - 1)
  assert.ok(await accepts(dir, access))
  now.mock.mockImplementation(() => expiresAt)
  assert.equal(await accepts(dir, access), false)
})

test('a refresh token that is used twice ends the session', async (t) => {
  const dir = await dataDirectory(t, 0)
  const first = await login(dir)
  const second = await refresh(dir, first.refresh)
  assert.ok(second)
  assert.equal(await refresh(dir, first.refresh), undefined)
  for (const { access } of [first, second]) assert.equal(await accepts(dir, access), false)
  assert.equal(await refresh(dir, second.refresh), undefined)
  const next = await login(dir)
  assert.ok(await accepts(dir, next.access))
})

test('one of two concurrent refreshes succeeds, and the session ends', async (t) => {
  const dir = await dataDirectory(t, 0)
  const first = await login(dir)
  const answers = await Promise.all([refresh(dir, first.refresh), refresh(dir, first.refresh)])
  const granted = answers.filter((tokens) => tokens !== undefined)
  assert.equal(granted.length, 1)
  for (const { access } of granted) assert.equal(await accepts(dir, access), false)
})

test('a refresh token of another session is refused', async (t) => {
  const dir = await dataDirectory(t, 0)
  const old = await login(dir)
  const now = await login(dir)
  for (const used of [old.refresh, 'made up']) assert.equal(await refresh(dir, used), undefined)
  assert.equal(await accepts(dir, old.access), false)
  assert.ok(await accepts(dir, now.access))
  assert.ok(await refresh(dir, now.refresh))
})
