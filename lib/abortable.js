'use strict'

const { onAbort } = require('./abort.js')
const { clearTimeout, setTimeout } = require('./clock.js')

/** How long a promise that is rejected waits for a try that is under way, in milliseconds. */
const GRACE = 25

/**
 * Ends a call that acquires a lock when its signal, which is not aborted yet, is: then a lock that is won all the same
 * is rolled back.
 * @template T
 * @param {() => Promise<T>} acquire is not called if the signal takes no listener
 * @param {AbortSignal} signal
 * @param {{ isAborted: boolean, abort(): void }} call
 * @param {(lock: T) => Promise<unknown>} rollBack
 * @returns {Promise<T>}
 */
function abortable(acquire, signal, call, rollBack) {
  return new Promise((resolve, reject) => {
    const stopListening = onAbort(signal, () => {
      call.abort()
      unwanted(acquiring.then(rollBack)).then(() => reject(signal.reason))
    })
    const acquiring = acquire()
    /** @type {<V>(settle: (value: V) => void) => (value: V) => void} */
    const unlessAborted = (settle) => (value) => {
      if (call.isAborted) return
      stopListening()
      settle(value)
    }
    acquiring.then(unlessAborted(resolve), unlessAborted(reject))
  })
}

/**
 * Waits until a lock that is won too late is released, so that who is told of the end finds it free; not for long,
 * because a disk or a server may hang.
 * @param {Promise<unknown>} released
 */
async function unwanted(released) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, GRACE)
  })
  await Promise.race([released.catch(() => {}), late])
  clearTimeout(timer)
}

module.exports = { abortable, unwanted }
