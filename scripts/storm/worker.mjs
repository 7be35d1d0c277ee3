// A process of the storm, started by `fork` with its setting as JSON: it runs the loop itself, or in threads.
import { Worker } from 'node:worker_threads'
import { now } from './clock.mjs'
import { openLog } from './log.mjs'
import { loop } from './loop.mjs'

const setting = JSON.parse(process.argv[2])
const threads = []
let serial = 0
let started = false
let stopped = false

/** Starts a thread in one of the places. */
function startThread(place) {
  const name = `${setting.name}.${serial}`
  const workerData = { ...setting, name, index: serial, started }
  serial += 1
  const worker = new Worker(new URL('thread.mjs', import.meta.url), { workerData })
  const ready = new Promise((resolve) => {
    worker.once('message', resolve)
  })
  const ended = new Promise((resolve) => {
    worker.once('exit', resolve)
  })
  threads[place] = { name, worker, ready, ended }
}

/** A thread is ended in the midst of what it does, and another one starts in its place. */
function terminate(place, log) {
  const { name, worker } = threads[place]
  log.end(name)
  worker.terminate()
  log.ended(name)
  startThread(place)
}

function tell(message) {
  for (const { worker } of threads) worker.postMessage(message)
}

async function runThreads() {
  const log = openLog(`${setting.logs}/${setting.name}.log`)
  for (let place = 0; place < setting.threads; place += 1) startThread(place)
  process.on('message', (message) => {
    if (message.terminate !== undefined) terminate(message.terminate, log)
    else tell(message)
  })
  const stamps = await Promise.all(threads.map(({ ready }) => ready))
  // The storm may be over before the threads have started.
  if (process.connected) process.send({ ready: stamps.at(-1) })
}

process.on('message', (message) => {
  if (message === 'go') started = true
  if (message !== 'stop') return
  stopped = true
  // Not at once: Node.js fails to disconnect while it delivers messages that waited for a listener.
  setImmediate(() => process.disconnect())
})
// It also comes when the driver is gone and nobody is left who would end this process.
process.on('disconnect', () => {
  if (!stopped) process.exit(1)
})

if (setting.threads > 0) {
  await runThreads()
} else {
  const go = new Promise((resolve) => {
    process.once('message', resolve)
  })
  process.send({ ready: String(now()) })
  await go
  await loop(setting, () => stopped)
}
