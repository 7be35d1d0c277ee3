// A network link that goes down: only timers of TCP and of this package detect it.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const SESSION_TIMEOUT = 6000
const program = fileURLToPath(new URL('network-namespace.mjs', import.meta.url))

/** Why no network namespace can be made here. */
function missing(): string | false {
  const probe = 'ip link add near type veth peer name far && nsenter --version'
  const { status, stderr, error } = spawnSync('unshare', ['--net', 'sh', '-c', probe], { encoding: 'utf8' })
  return status !== 0 && `no network namespace can be made: ${error?.message ?? stderr.trim()}`
}

test('a disconnected holder aborts before the server frees the lock', {
  skip: missing(),
}, (t) => {
  const args = ['--net', process.execPath, program, String(SESSION_TIMEOUT)]
  const { stdout, stderr, status } = spawnSync('unshare', args, { encoding: 'utf8', timeout: 60_000 })
  assert.equal(status, 0, stderr)
  assert.match(stderr, /^RECONCILE_LOCK_CLEARTEXT$/m, 'the connection is not encrypted')
  const { code, noticed, free, from } = JSON.parse(stdout)
  t.diagnostic(`noticed after ${noticed} ms, free after ${free} ms, of ${SESSION_TIMEOUT}`)
  assert.deepEqual([code, from], ['E_LOCK_LOST', true])
  // A busy machine delays both.
  assert.ok(noticed <= (SESSION_TIMEOUT * 3) / 4, `noticed after ${noticed} ms`)
  assert.ok(
    free > noticed && free <= 2 * SESSION_TIMEOUT,
    `noticed after ${noticed} ms, free after ${free} ms`,
  )
})
