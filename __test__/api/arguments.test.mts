// The arguments that each call accepts. It rejects all others before it accesses the filesystem.
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import { runInNewContext } from 'node:vm'
import * as lock from 'reconcile-lock'
import { directory, isWindows, rejection } from '../support/directory.mjs'
import { sleep } from '../support/time.mjs'

const {
  acquireLock,
  acquireLockSync,
  breakLock,
  inspectLock,
  inspectLockSync,
  releaseLock,
  releaseLockSync,
  resolveLockPath,
  withLock,
} = lock

/** The calls that take a lock or options, wrapped to return promises. */
const calls: Record<string, (...args: never[]) => Promise<unknown>> = {
  acquireLock,
  acquireLockSync: async (...args) => acquireLockSync(...args),
  releaseLock,
  releaseLockSync: async (...args) => releaseLockSync(...args),
  withLock: (...args) => withLock(() => {}, ...args),
  inspectLock,
  inspectLockSync: async (...args) => inspectLockSync(...args),
  breakLock,
  resolveLockPath: async (...args) => resolveLockPath(...args),
}

const NO_OPTIONS: Record<string, unknown> = {
  null: null,
  'a number': 5,
  'an array': [],
  'a function': () => {},
  'a Promise': Promise.resolve(),
  'a Map': new Map(),
  'a Date': new Date(),
  'an object with inherited getters': new (class Options {
    get file() {
      return 'l'
    }
  })(),
  'an object that inherits options': Object.create({ file: 'l' }),
}

for (const [name, call] of Object.entries(calls)) {
  for (const [what, value] of Object.entries(NO_OPTIONS)) {
    // An array means several targets.
    if (name === 'withLock' && Array.isArray(value)) continue
    test(`${name} rejects ${what}`, async () => {
      const error = await rejection(call(value as never))
      assert.ok(error instanceof TypeError)
      assert.equal(error.code, 'ERR_INVALID_ARG_TYPE')
      assert.match(error.message, /^The "options" argument must be of type string, .*\. Received /)
    })
  }

  test(`${name} rejects a second argument`, async (t) => {
    const cwd = directory(t)
    const error = await rejection(call(cwd as never, { timeout: 5 } as never))
    assert.ok(error instanceof TypeError)
    assert.match(error.message, /takes one argument, a directory or options/)
    assert.deepEqual(readdirSync(cwd), [])
  })

  test(`${name} reads only own options, and each once`, async (t) => {
    const cwd = directory(t)
    const reads: string[] = []
    const options = Object.defineProperties(
      {},
      Object.fromEntries(
        Object.entries({ cwd, file: 'l', message: 'm', legacy: false, durable: true, timeout: 60_000 }).map(
          ([key, value]) => [key, { enumerable: true, get: () => reads.push(key) && value }],
        ),
      ),
    )
    const polluted = [
      'force',
      'timeout',
      'signal',
      'onWait',
      'cwd',
      'file',
      'message',
      'legacy',
      'durable',
      'shared',
      'holder',
      'takenOver',
      'reason',
    ]
    const prototype = Object.prototype as Record<string, unknown>
    for (const key of polluted) prototype[key] = true
    try {
      await call(options as never)
      assert.equal((await inspectLock({ cwd, file: 'other' })).state, 'free')
    } finally {
      for (const key of polluted) delete prototype[key]
    }
    assert.deepEqual(reads.toSorted(), ['cwd', 'durable', 'file', 'legacy', 'message', 'timeout'])
    releaseLockSync({ cwd, file: 'l' })
  })

  for (const option of ['legacy', 'durable', 'shared']) {
    test(`${name} rejects a number as ${option}`, async (t) => {
      const cwd = directory(t)
      const error = await rejection(call({ cwd, [option]: 1 } as never))
      assert.ok(error instanceof TypeError)
      assert.equal(error.code, 'ERR_INVALID_ARG_TYPE')
      assert.match(error.message, new RegExp(`"options.${option}" argument must be of type boolean`))
      assert.deepEqual(readdirSync(cwd), [])
    })
  }

  test(`${name} accepts acquire options, file: URLs and cross-realm objects`, async (t) => {
    const cwd = directory(t)
    const { signal } = new AbortController()
    for (const options of [
      { cwd, file: 'l', message: 'm', legacy: false, durable: true, timeout: 60_000, signal, onWait() {} },
      { cwd: pathToFileURL(cwd), file: 'l' },
      { file: pathToFileURL(join(cwd, 'l')) },
      runInNewContext(`({ cwd: ${JSON.stringify(cwd)}, file: 'l' })`),
      Object.assign(Object.create(null), { cwd, file: 'l' }),
    ]) {
      const result = await call(options as never)
      if (name === 'resolveLockPath') assert.equal(result, join(cwd, 'l'))
      releaseLockSync({ cwd, file: 'l' })
    }
    await call(pathToFileURL(cwd) as never)
    releaseLockSync(cwd)
    assert.deepEqual(readdirSync(cwd), [])
  })
}

test('breakLock ignores force on Object.prototype', async (t) => {
  const cwd = directory(t)
  using held = acquireLockSync(cwd)
  const prototype = Object.prototype as { force?: boolean }
  prototype.force = true
  try {
    assert.equal((await rejection(breakLock(cwd))).code, 'E_LOCK_CONTENTION')
  } finally {
    delete prototype.force
  }
  assert.ok(held.isHeld())
})

const urls = [
  ['https://example.org/', 'ERR_INVALID_URL_SCHEME'],
  ['file:///a%2Fb', 'ERR_INVALID_FILE_URL_PATH'],
  ['file:///a%zz', 'ERR_INVALID_ARG_VALUE'],
  ['file:///%ff', 'ERR_INVALID_ARG_VALUE'],
  // Windows has paths with a host.
  ...(isWindows ? [] : [['file://host/a', 'ERR_INVALID_FILE_URL_HOST'] as const]),
] as const
for (const [href, code] of urls)
  test(`acquireLock rejects the URL ${href}`, async () => {
    const url = new URL(href)
    for (const target of [url, { cwd: url }, { file: url }]) {
      const error = await rejection(acquireLock(target))
      assert.ok(error instanceof TypeError)
      assert.equal(error.code, code)
    }
  })

test('a file: URL is read without the global URL', (t) => {
  const url = pathToFileURL(directory(t))
  const path = lock.resolveLockPath(url)
  const { URL } = globalThis
  Object.assign(globalThis, { URL: { createObjectURL() {} } })
  try {
    assert.equal(lock.resolveLockPath(url), path)
  } finally {
    Object.assign(globalThis, { URL })
  }
})

for (const [name, release] of [
  ['releaseLock', releaseLock],
  ['releaseLockSync', async (target: lock.Lock) => releaseLockSync(target)],
] as const) {
  test(`${name} releases the given lock and no other`, async (t) => {
    const cwd = directory(t)
    const [first, second] = [acquireLockSync(cwd), acquireLockSync({ cwd, file: 'second' })]
    await release(second)
    assert.deepEqual([first.isHeld(), second.isHeld()], [true, false])
    const again = acquireLockSync({ cwd, file: 'second' })
    await release(second)
    assert.ok(again.isHeld(), 'a released lock does not release a later lock of its path')
    await release(again)
    await release(first)
    assert.deepEqual(readdirSync(cwd), [])
  })
}

test('inspectLock, breakLock and resolveLockPath accept a lock as target', async (t) => {
  const cwd = directory(t)
  const held = acquireLockSync({ cwd, file: 'second' })
  assert.equal(resolveLockPath(held), held.path)
  assert.equal((await inspectLock(held)).state, 'held')
  assert.equal((await rejection(breakLock(held))).code, 'E_LOCK_CONTENTION')
  held.releaseSync()
  assert.equal(inspectLockSync(held).state, 'free')
})

test('the methods of a lock work without their receiver', async (t) => {
  const cwd = directory(t)
  const { release, isHeld } = await acquireLock(cwd)
  assert.ok(isHeld())
  await Promise.resolve().finally(release)
  assert.ok(!isHeld())
  const second = acquireLockSync(cwd)
  assert.equal(second.release, second.release, 'the same function each time, for removeListener')
  const { releaseSync } = second
  releaseSync()
  assert.deepEqual(readdirSync(cwd), [])
})

test('console.log and JSON.stringify print path, holder and takenOver', (t) => {
  using held = acquireLockSync(directory(t))
  const { path, holder } = held
  assert.deepEqual(JSON.parse(JSON.stringify(held)), { path, holder })
  assert.match(inspect(held), /^Lock \{\s+path: '.*',\s+holder: \{ pid: \d+/)
})

test('acquireLock leaves no lock if addEventListener of signal throws', async (t) => {
  const cwd = directory(t)
  const signal = {
    aborted: false,
    addEventListener() {
      throw new Error('no listeners')
    },
    removeEventListener() {},
  } as unknown as AbortSignal
  assert.equal((await rejection(acquireLock({ cwd, signal }))).message, 'no listeners')
  await sleep(50, 'an attempt that has begun would hold the lock by then')
  assert.deepEqual(readdirSync(cwd), [])
})

test('acquireLock rejects a signal that cannot remove its listeners', async (t) => {
  const cwd = directory(t)
  const signal = { aborted: false, addEventListener() {} } as unknown as AbortSignal
  assert.equal((await rejection(acquireLock({ cwd, signal }))).code, 'ERR_INVALID_ARG_TYPE')
  assert.deepEqual(readdirSync(cwd), [])
})

test('ENOENT for a missing directory suggests the file option', async (t) => {
  const cwd = join(directory(t), 'data.csv')
  for (const error of [
    await rejection(acquireLock(cwd)),
    await rejection((async () => acquireLockSync(cwd))()),
  ]) {
    assert.equal(error.code, 'ENOENT')
    assert.match(
      error.message,
      /^ENOENT: no such file or directory, open '.*'; '.*data\.csv' must be a directory/,
    )
    assert.ok(error.message.includes(`{ file: '${cwd}' }`), error.message)
  }
})

test('inspectLock reports that the directory does not exist', async (t) => {
  const cwd = join(directory(t), 'missing')
  const { state, reason } = await inspectLock({ cwd })
  assert.equal(state, 'free')
  assert.equal(reason, `no lock file can be there: the directory ${cwd} does not exist`)
})
