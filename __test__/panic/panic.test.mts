import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { directory } from '../support/directory.mjs'
import { type KnownFailure, knownFailure } from '../support/known-failure.mjs'
import { copyPackage } from '../support/packages.mjs'
import { fileOf, here } from '../support/release.mjs'
import type { Report } from './panics.mjs'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const fixture = fileURLToPath(new URL('panics.mjs', import.meta.url))
const target = join(root, 'target/panic-probe')
const library = { darwin: 'libreconcile_lock.dylib', win32: 'reconcile_lock.dll' }[process.platform as string]

const onWine: KnownFailure = {
  platform: 'wine',
  why: 'the test starts cargo, which is not a Windows program there',
  sometimes: true,
}
const OTHER_MACHINE = 'the test builds an addon for the host, not for the emulated machine'

let isBuilt = false

/** Builds the addon with the feature `panic-probe`. */
function build(): void {
  if (isBuilt) return
  const args = ['build', '--locked', '--package', 'reconcile-lock', '--lib', '--features', 'panic-probe']
  const env = { ...process.env, CARGO_TARGET_DIR: target }
  const { status, stderr, error } = spawnSync('cargo', args, {
    cwd: root,
    env,
    encoding: 'utf8',
    timeout: 540_000,
  })
  assert.equal(status, 0, `the addon with panic-probe cannot be built: ${error?.message ?? stderr}`)
  isBuilt = true
}

test(
  'the published addon has no panic probe',
  knownFailure(onWine, () => {
    assert.equal('panicAt' in createRequire(import.meta.url)(join(root, fileOf(here))), false)
  }),
)

for (const place of ['call', 'work', 'settling']) {
  test(
    `the process survives a panic in the ${place}`,
    knownFailure(
      [onWine, { platform: 'qemu', why: OTHER_MACHINE }, { platform: 'musl', why: OTHER_MACHINE }],
      (t) => {
        build()
        const cwd = directory(t)
        copyPackage(cwd)
        copyFileSync(join(target, 'debug', library ?? 'libreconcile_lock.so'), join(cwd, 'probe.node'))
        const child = spawnSync(process.execPath, [fixture, cwd, place], {
          encoding: 'utf8',
          env: { ...process.env, NAPI_RS_NATIVE_LIBRARY_PATH: join(cwd, 'probe.node') },
          timeout: 60_000,
        })
        assert.equal(child.signal, null, child.stderr)
        assert.equal(child.status, 0, child.stderr)
        const { outcomes, afterwards } = JSON.parse(child.stdout) as Report
        const names = Object.keys(outcomes)
        assert.ok(names.length >= (place === 'call' ? 22 : 7), names.join())
        const expected = `E_LOCK_INTERNAL reconcile-lock: internal error: probe at ${place}`
        assert.deepEqual(outcomes, Object.fromEntries(names.map((name) => [name, expected])))
        const { others, ...rest } = afterwards
        assert.deepEqual(rest, { stillHeld: true, refused: 'E_LOCK_CONTENTION', released: 'free' })
        assert.ok(others.length > 1 && others.every((state) => state === 'free'), others.join())
        const printed = child.stderr.split('\n').filter((line) => line.includes(`probe at ${place}`))
        assert.equal(printed.length, names.length, `each panic is printed once: ${child.stderr}`)
      },
    ),
  )
}
