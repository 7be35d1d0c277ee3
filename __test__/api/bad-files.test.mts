import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import * as fs from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { getSystemErrorMap } from 'node:util'
import {
  acquireLock,
  acquireLockSync,
  breakLock,
  inspectLock,
  inspectLockSync,
  resolveLockPath,
} from 'reconcile-lock'
import { fromWin32 } from '../../lib/win32-errors.js'
import { directory, isWindows, leave, PRIVATE, rejection } from '../support/directory.mjs'
import { knownFailure } from '../support/known-failure.mjs'
import { noLinks } from '../support/wine.mjs'
import { within } from '../support/within.mjs'

const calls = {
  acquireLock,
  acquireLockSync: async (cwd: string) => acquireLockSync(cwd),
  inspectLock,
  inspectLockSync: async (cwd: string) => inspectLockSync(cwd),
  breakLock,
  'forced breakLock': (cwd: string) => breakLock({ cwd, force: true }),
}

const traps: Record<string, [code: string, make: (path: string) => unknown]> = {
  'a directory': ['E_LOCK_NOT_A_FILE', (path) => fs.mkdirSync(path)],
  'a FIFO': ['E_LOCK_NOT_A_FILE', (path) => execFileSync('mkfifo', [path])],
  'a socket': [
    'E_LOCK_NOT_A_FILE',
    (path) => new Promise((done) => servers.push(createServer().listen(path, () => done(0)))),
  ],
  'a hard link': [
    'E_LOCK_NOT_A_FILE',
    (path) => {
      fs.writeFileSync(`${path}.other`, 'precious')
      fs.linkSync(`${path}.other`, path)
    },
  ],
  'a symbolic link': [
    'E_LOCK_SYMLINK',
    (path) => {
      fs.writeFileSync(`${path}.other`, 'precious')
      fs.symlinkSync(`${path}.other`, path)
    },
  ],
  'a dangling symbolic link': ['E_LOCK_SYMLINK', (path) => fs.symlinkSync('nowhere', path)],
}
const servers: ReturnType<typeof createServer>[] = []
const elsewhere = isWindows && 'Windows has no such files'

for (const [what, [code, make]] of Object.entries(traps)) {
  for (const [name, call] of Object.entries(calls)) {
    const skip = /FIFO|socket/.test(what) && elsewhere
    const marks = what.includes('symbolic link') ? noLinks : []
    // A call that opens the FIFO hangs.
    test(
      `${name} rejects ${what} and keeps it`,
      { timeout: 60_000, skip },
      knownFailure(marks, async (t) => {
        const cwd = directory(t)
        const path = resolveLockPath(cwd)
        await make(path)
        t.after(() => servers.pop()?.close())
        const [before, filesBefore] = [fs.lstatSync(path), fs.readdirSync(cwd)]
        const error = await rejection(call(cwd))
        assert.equal(error.code, code)
        assert.equal(error.name, 'LockError')
        assert.equal(error.path, path)
        if (code === 'E_LOCK_SYMLINK')
          assert.equal(error.message, `Refusing to read symlinked lock file: ${path}`)
        const after = fs.lstatSync(path)
        assert.deepEqual([after.ino, after.mode, after.size], [before.ino, before.mode, before.size])
        const files = fs.readdirSync(cwd)
        assert.deepEqual(files, filesBefore)
        for (const name of files.filter((name) => name.endsWith('.other')))
          assert.equal(fs.readFileSync(join(cwd, name), 'utf8'), 'precious')
      }),
    )
  }
}

const strange: Record<string, string | Buffer> = {
  'random bytes': randomBytes(700),
  'deeply nested JSON': '['.repeat(100_000),
  'a nested pid': `{"pid":${'['.repeat(400)}`,
  'plain text': 'hello',
  'an array': '[1,2]',
  'no pid': '{"createdAt":1}',
}
/** Linux counts to 2 ** 22 (proc(5), pid_max), Windows uses 32 bits. */
const tooLarge = isWindows ? [2 ** 32] : [2 ** 31, 4_194_305]
for (const pid of [0, -1, 1.5, ...tooLarge, 2 ** 53, 'a string', null, true, {}]) {
  strange[`pid ${JSON.stringify(pid)}`] = JSON.stringify({ pid, createdAt: 1 })
}

for (const [what, content] of Object.entries(strange)) {
  test(`a file with ${what} is a stale lock`, async (t) => {
    const cwd = directory(t)
    const path = leave(cwd, content, 0)
    const status = await inspectLock(cwd)
    assert.deepEqual([status.state, status.holder], ['stale', undefined])
    assert.deepEqual(fs.readFileSync(path), Buffer.from(content), 'inspectLock does not change the file')
    const lock = await acquireLock(cwd)
    assert.deepEqual(lock.takenOver, { reason: 'the file did not contain a lock record' })
    assert.equal(fs.statSync(path).size, 512)
    assert.equal(JSON.parse(fs.readFileSync(path, 'utf8')).pid, process.pid)
    assert.equal(fs.statSync(path).mode & 0o777, PRIVATE)
    await lock.release()
    leave(cwd, content, 0)
    assert.equal(await breakLock(cwd), true)
    assert.equal(fs.existsSync(path), false)
  })
}

test('only the beginning of a 1 GiB file is read', async (t) => {
  const cwd = directory(t)
  const size = 2 ** 30
  const path = leave(cwd, '{')
  fs.truncateSync(path, size)
  const whole = performance.now()
  const file = fs.openSync(path, 'r')
  for (const part = Buffer.alloc(2 ** 20); fs.readSync(file, part) > 0; );
  fs.closeSync(file)
  const control = performance.now() - whole
  await within(control / 4, async () => {
    leave(cwd, '{')
    fs.truncateSync(path, size)
    const before = performance.now()
    assert.equal((await inspectLock(cwd)).state, 'stale')
    const lock = await acquireLock(cwd)
    const took = performance.now() - before
    assert.equal(fs.statSync(path).size, 512)
    await lock.release()
    return took
  })
})

test('a legacy record may use any JSON formatting', async (t) => {
  const cwd = directory(t)
  const path = join(cwd, '.xero-reconcile-lock.json')
  for (const text of [`\n{ "createdAt" : 5, "pid":\t${process.ppid} }\n\n`, `{"pid":${process.ppid}.0}`]) {
    fs.writeFileSync(path, text)
    const error = await rejection(acquireLock(cwd))
    assert.equal((error.holder as { pid: number }).pid, process.ppid)
  }
})

test('a file that another program does not share is EBUSY', () => {
  const errors = getSystemErrorMap()
  // ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION and ERROR_BUSY.
  for (const error of [32, 33, 170]) assert.equal(errors.get(-fromWin32(error, errors))?.[0], 'EBUSY')
})
