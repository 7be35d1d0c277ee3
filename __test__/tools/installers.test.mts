// The installations below target/ are complete.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { directory } from '../support/directory.mjs'
import { root } from '../support/packages.mjs'

interface Installers {
  makeOnce(directory: string, fill: (unfinished: string) => void): string | undefined
}
const { makeOnce }: Installers = await import(join(root, 'tools/installers.mjs'))

test('makeOnce fills a directory once', (t) => {
  const home = directory(t)
  const fill = (unfinished: string) => {
    assert.deepEqual(readdirSync(home), [unfinished.slice(home.length + 1)])
    writeFileSync(join(unfinished, 'file'), '')
  }
  assert.equal(makeOnce(join(home, 'tools'), fill), undefined)
  assert.equal(makeOnce(join(home, 'tools'), assert.fail), undefined)
  assert.deepEqual(readdirSync(home, { recursive: true }).sort(), ['tools', 'tools/file'])
})

test('makeOnce leaves no directory if it fails', (t) => {
  const home = directory(t)
  const fill = (unfinished: string) => {
    writeFileSync(join(unfinished, 'file'), '')
    throw new Error('a reason')
  }
  assert.equal(makeOnce(join(home, 'tools'), fill), 'a reason')
  assert.deepEqual(readdirSync(home), [])
})

test('makeOnce accepts what another process has made meanwhile', (t) => {
  const home = directory(t)
  const fill = () => mkdirSync(join(home, 'tools', 'theirs'), { recursive: true })
  assert.equal(makeOnce(join(home, 'tools'), fill), undefined)
  assert.deepEqual(readdirSync(home, { recursive: true }).sort(), ['tools', 'tools/theirs'])
})

test('missing bundlers are skipped, and fail a run under CI', (t) => {
  const home = directory(t)
  cpSync(join(root, 'tools'), join(home, 'tools'), { recursive: true })
  for (const [CI, expected] of [
    ['', 0],
    ['true', 1],
  ] as const) {
    // Without npm.
    const options = { env: { PATH: home, CI }, encoding: 'utf8' } as const
    const { status, stdout } = spawnSync(process.execPath, [join(home, 'tools/bundlers.mjs')], options)
    assert.match(stdout, /^SKIPPED, as spawnSync npm ENOENT: /m)
    assert.equal(status, expected)
  }
})
