// What a worker does all the time: acquire, be in the critical section, release.
import { createRequire } from 'node:module'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { now } from './clock.mjs'
import { openLog } from './log.mjs'
import { randomFrom } from './random.mjs'

/**
 * @typedef {object} Setting
 * @property {string} kind `old` for the TypeScript original, anything else for this package
 * @property {number} index half of the native workers wait for the lock, the others ask again and again
 * @property {string} cwd the directory of the lock
 * @property {string} logs the directory of the logs
 * @property {string} name the name of the log
 * @property {string} root the project's directory
 * @property {boolean} logUnlinks whether old peers log what they remove; it slows them in their race
 * @property {string} seed the random choices of a worker depend on it and on the worker's name
 */

/** Each kind of choice has its own stream: contention does not change how long the next section takes. */
function choicesOf({ seed, name }) {
  const attempts = randomFrom(seed, `${name} attempts`)
  const sections = randomFrom(seed, `${name} sections`)
  const pauses = randomFrom(seed, `${name} pauses`)
  return {
    attempt: (ways) => ({ way: attempts.pick(ways), timeout: attempts.between(10, 400) }),
    /** Mostly short, some longer. Half of them give way to the event loop, as those of programs do. */
    section: () => ({
      milliseconds: sections.chance(0.8) ? sections.between(0, 0.3) : sections.between(0.3, 3),
      yields: sections.chance(0.5),
    }),
    /** Half of the pauses are none but for the event loop. */
    pause: () => (pauses.chance(0.5) ? undefined : pauses.between(0, 2)),
  }
}

function spin(milliseconds) {
  const end = now() + BigInt(Math.round(milliseconds * 1e6))
  while (now() < end);
}

async function pass({ milliseconds, yields }) {
  if (!yields) spin(milliseconds)
  else if (milliseconds < 1) await setImmediate()
  else await setTimeout(milliseconds)
}

/** Each way to use this package: `enter` and `leave` enclose the critical section. */
function nativeWays({ acquireLock, acquireLockSync, releaseLock, withLock }, section) {
  return [
    async (options, enter, leave) => {
      const lock = await acquireLock(options)
      enter(lock)
      await pass(section())
      leave()
      await lock.release()
    },
    (options, enter, leave) => {
      const lock = acquireLockSync(options)
      enter(lock)
      spin(section().milliseconds)
      leave()
      lock.releaseSync()
    },
    (options, enter, leave) =>
      withLock(async (lock) => {
        enter(lock)
        await pass(section())
        leave()
      }, options),
    // As `await using` does, which Node.js 20 cannot parse.
    async (options, enter, leave) => {
      const lock = await acquireLock(options)
      enter(lock)
      await pass(section())
      leave()
      await lock[Symbol.asyncDispose]()
    },
    async (options, enter, leave) => {
      const lock = await acquireLock(options)
      enter(lock)
      await pass(section())
      leave()
      await releaseLock(options.cwd)
    },
  ]
}

/** When the record was written, from its time of the day in whole milliseconds; not before it was asked for. */
function ownSince(asked, { holder }, stamp) {
  const age = Math.max(0, Date.now() - holder.createdAt) + 1
  const written = stamp - BigInt(age) * 1_000_000n
  return written > asked ? written : asked
}

function nativeTurn({ root, cwd, index }, log, { attempt, section }) {
  const ways = nativeWays(createRequire(import.meta.url)(`${root}`), section)
  const waits = index % 2 === 0
  return (entered, leave) => {
    const { way, timeout } = attempt(ways)
    const options = { cwd, timeout: waits ? timeout : 0 }
    const asked = now()
    const enter = (lock) => {
      log.enter(lock.takenOver !== undefined, (stamp) => ownSince(asked, lock, stamp))
      entered()
    }
    return way(options, enter, leave)
  }
}

async function oldTurn({ root, cwd, logUnlinks }, log, { section }) {
  const old = await import(pathToFileURL(`${root}build/__test__/legacy/lock.mjs`).href)
  return async (entered, leave) => {
    let unlinking = false
    let takenOver = false
    const ended = () => {
      if (unlinking && logUnlinks) log.unlinked()
      unlinking = false
    }
    const hooks = {
      async beforeUnlink() {
        unlinking = true
        takenOver = true
        if (logUnlinks) log.unlink()
      },
      async beforeCreate() {
        ended()
      },
    }
    await old.acquireLock(cwd, hooks).finally(ended)
    log.enter(takenOver, (stamp) => stamp)
    entered()
    await pass(section())
    leave()
    if (logUnlinks) log.unlink()
    await old.releaseLock(cwd)
    if (logUnlinks) log.unlinked()
  }
}

/**
 * Runs until `stopped` says so.
 * @param {Setting} setting
 * @param {() => boolean} stopped
 */
export async function loop(setting, stopped) {
  const log = openLog(`${setting.logs}/${setting.name}.log`)
  const choices = choicesOf(setting)
  const turn = await (setting.kind === 'old' ? oldTurn : nativeTurn)(setting, log, choices)
  while (!stopped()) {
    let inside = false
    try {
      await turn(() => {
        inside = true
      }, log.exit)
    } catch (error) {
      if (!inside && error.code === 'E_LOCK_CONTENTION') log.refused()
      else log.error(inside ? 'release' : 'acquire', error)
    }
    // The event loop must see the message that ends this.
    const pause = choices.pause()
    await (pause === undefined ? setImmediate() : setTimeout(pause))
  }
  log.flush()
}
