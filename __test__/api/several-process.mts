// Acquires the locks that it gets, 200 times. Usage: several-process.mjs CWD FILE ...
import { lock } from '../support/lock.mjs'

const { withLock } = lock

const [cwd, ...files] = process.argv.slice(2)
const targets = files.map((file) => ({ file }))
for (let round = 0; round < 200; round += 1)
  await withLock(() => new Promise((resolve) => setImmediate(resolve)), targets, { cwd, timeout: 30_000 })
