// From the moment just before a release, or before SIGKILL of the holder, until another process holds the lock.
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { now, Peer } from './peers.mjs'
import { columns, micro } from './report.mjs'
import { takeTurns } from './rounds.mjs'
import { momentsOf, spread } from './statistics.mjs'
import { period, pollingName, properOptions, withoutLegacy } from './waits.mjs'

const peerPath = fileURLToPath(new URL('peer.mjs', import.meta.url))

/** When to release after the waiter has gone to sleep, in milliseconds. */
export const soon = [20, 80]
/** A whole period of the poller: every phase of its sleep is as likely as another. */
export const withinPeriod = [20, 20 + period]
/** Within the first pause of `retry`, which is 1 s. */
const withinSecond = [20, 1000]

const own = [
  { name: 'acquireLock', kind: 'own', wait: soon },
  { name: 'acquireLockSync', kind: 'own-sync', wait: soon },
]
const ownWithoutLegacy = own.map(({ name, kind, wait }) => ({
  name: withoutLegacy(name),
  kind: `${kind}-without-legacy`,
  wait,
}))
const command = { name: 'flock(1)', kind: 'flock', native: 'command', wait: soon }
const call = { name: 'flock(2), native', kind: 'flock', native: 'call', wait: soon }
const polling = { name: pollingName, kind: 'original', wait: withinPeriod }
const { retries, stale } = properOptions
const proper = {
  name: `proper-lockfile, retries: ${retries}, stale: ${stale}`,
  kind: 'proper',
  wait: withinSecond,
}

/** Why flock(1) cannot take part. */
function noCommand() {
  const { error, status } = spawnSync('flock', ['--version'])
  return error || status !== 0 ? 'flock(1) of util-linux is not installed' : undefined
}

/** A process that holds and one that waits. */
class Contender {
  /**
   * @param {object} about
   * @param {string} about.kind what `peer.mjs` calls it
   * @param {string} [about.native] what the bench `flock` calls it, if that one waits
   * @param {number[]} about.wait
   * @param {number} about.times
   * @param {string} about.place a directory, or the URL of a database
   * @param {string} [about.executable]
   */
  constructor({ kind, native, wait, times, place, executable }) {
    // One more for the round that does not count.
    this.pauses = momentsOf(wait, times + 1)
    this.holderCommand = [process.execPath, peerPath, kind, place]
    const nativeCommand = [executable, native, join(place, 'flock.lock')]
    this.waiterCommand = native ? nativeCommand : this.holderCommand
  }

  async start() {
    const peers = [new Peer(this.waiterCommand), new Peer(this.holderCommand)]
    const [waiter, holder] = await Promise.all(peers.map((peer) => peer.isReady()))
    Object.assign(this, { waiter, holder })
  }

  async pause() {
    await setTimeout(this.pauses.pop())
    if (this.waiter.hasSpoken) throw new Error('a waiter got a lock that was held')
  }

  /** Nanoseconds until the waiter, which is let go again, held the lock. */
  async since(from) {
    const held = BigInt(await this.waiter.says('held'))
    if (held < from) throw new Error('a waiter held the lock before its release')
    await this.waiter.release()
    return Number(held - from)
  }

  async handOver() {
    await this.holder.hold()
    await this.waiter.waits()
    await this.pause()
    return this.since(await this.holder.release())
  }

  async kill() {
    await this.holder.hold()
    await this.waiter.waits()
    // It starts while nothing is measured, and before the pause, which is to be a quiet one.
    const next = await new Peer(this.holderCommand).isReady()
    await this.pause()
    const from = now()
    const ended = this.holder.kill()
    const [latency] = await Promise.all([this.since(from), ended])
    this.holder = next
    return latency
  }
}

/**
 * @param {'handOver' | 'kill'} what
 * @param {object[]} contenders what each is made of, and the share of the samples that a slow one takes
 * @param {number} samples
 */
export async function samplesOf(what, contenders, samples) {
  const taking = []
  for (const { share = 1, ...about } of contenders) {
    const times = Math.max(1, Math.round(samples * share))
    const contender = new Contender({ ...about, times })
    await contender.start()
    taking.push({ times, sample: () => contender[what]() })
  }
  const taken = await takeTurns(taking, samples)
  return contenders.map(({ name }, index) => ({ name, ...spread(taken[index]), samples: taken[index] }))
}

async function measure({ what, contenders, directory, executables, samples }) {
  const missing = noCommand()
  const present = contenders.filter(({ kind }) => kind !== 'flock' || !missing)
  const placed = present.map((about, index) => {
    const place = join(directory, `${what}-${index}`)
    mkdirSync(place)
    return { ...about, place, executable: executables.flock }
  })
  const results = await samplesOf(what, placed, samples)
  const absent = contenders.filter((about) => !present.includes(about))
  return { results, skipped: absent.map(({ name }) => ({ name, reason: missing })) }
}

/** @param {{ results: object[], skipped?: { name: string, reason: string }[] }} measured */
export function table({ results, skipped = [] }) {
  const head = ['contender', 'n', 'p50 us', 'p99 us', 'max us']
  const rows = results.map(({ name, n, p50, p99, max }) => [
    name,
    String(n),
    micro(p50),
    typeof p99 === 'string' ? p99 : micro(p99),
    micro(max),
  ])
  const remarks = skipped.map(({ name, reason }) => `\n  ${name}: skipped, ${reason}`)
  return columns([head, ...rows], 1) + remarks.join('')
}

/**
 * By name, for the targets.
 * @param {{ results: object[], skipped?: { name: string, reason: string }[] }} measured
 */
export function figuresOf({ results, skipped = [] }) {
  const figures = {}
  for (const { name, p50, p99 } of results) {
    figures[`${name} p50`] = p50
    figures[`${name} p50 ms`] = p50 / 1e6
    figures[`${name} p99 ms`] = typeof p99 === 'string' ? p99 : p99 / 1e6
  }
  for (const { name, reason } of skipped) {
    figures[`${name} p50`] = reason
    figures[`${name} p50 ms`] = reason
    figures[`${name} p99 ms`] = reason
  }
  return figures
}

/**
 * @param {'handOver' | 'kill'} what
 * @param {string} head
 * @param {{ name: string, kind: string, native?: string, wait: number[], share?: number }[]} contenders with the
 *   share of the samples that a slow one takes
 */
const section = (what, head, contenders) => async (setting) => {
  const measured = await measure({ ...setting, what, contenders })
  return { results: measured, figures: figuresOf(measured), text: `${head}\n${table(measured)}` }
}

export const handover = section(
  'handOver',
  'from just before the release until the waiter, another process, holds the lock',
  [...own, command, call, { ...polling, share: 0.3 }, { ...proper, share: 0.08 }],
)

export const killed = section(
  'kill',
  'from just before SIGKILL of the holder, a Node.js process, until the waiter holds the lock',
  // proper-lockfile waits until the lock is stale, and then for its next retry, 3 s or 7 s after the first try.
  [...own, ...ownWithoutLegacy, command, { ...polling, share: 0.3 }, { ...proper, share: 0.03 }],
)
