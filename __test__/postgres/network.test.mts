// A cable that is pulled: neither end of the connection hears of it but by the timers of TCP, and ours.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const SESSION_TIMEOUT = 6000
const cable = fileURLToPath(new URL('cable.mjs', import.meta.url))

/** Why there is no network of our own here. */
function missing(): string | false {
  const probe = 'ip link add near type veth peer name far && nsenter --version'
  const { status, stderr, error } = spawnSync('unshare', ['--net', 'sh', '-c', probe], { encoding: 'utf8' })
  return status !== 0 && `no network namespace can be made: ${error?.message ?? stderr.trim()}`
}

test('a holder that is cut off notices before the server lets others in, and the server does in time', {
  skip: missing(),
}, (t) => {
  const args = ['--net', process.execPath, cable, String(SESSION_TIMEOUT)]
  const { stdout, stderr, status } = spawnSync('unshare', args, { encoding: 'utf8', timeout: 60_000 })
  assert.equal(status, 0, stderr)
  assert.match(stderr, /^RECONCILE_LOCK_CLEARTEXT$/m, 'the connection is in clear')
  const { code, noticed, free, from } = JSON.parse(stdout)
  t.diagnostic(`noticed after ${noticed} ms, free after ${free} ms, of ${SESSION_TIMEOUT}`)
  assert.deepEqual([code, from], ['E_LOCK_LOST', true])
  // A busy machine delays either.
  assert.ok(noticed <= (SESSION_TIMEOUT * 3) / 4, `noticed after ${noticed} ms`)
  assert.ok(
    free > noticed && free <= 2 * SESSION_TIMEOUT,
    `noticed after ${noticed} ms, free after ${free} ms`,
  )
})
