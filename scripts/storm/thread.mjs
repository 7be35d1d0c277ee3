// A thread of a process of the storm.
import { parentPort, workerData } from 'node:worker_threads'
import { now } from './clock.mjs'
import { loop } from './loop.mjs'

let stopped = false
const go = new Promise((resolve) => {
  parentPort.on('message', (message) => {
    if (message === 'stop') {
      stopped = true
      parentPort.close()
    }
    resolve()
  })
})
parentPort.postMessage(String(now()))
if (!workerData.started) await go
await loop(workerData, () => stopped)
