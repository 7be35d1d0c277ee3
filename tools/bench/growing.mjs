// Measures how the cost grows with the number of held locks, waiters, paths and processes, and what a lock occupies.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { crowd, shares } from './waiting.mjs'
import { script, Worker } from './workers.mjs'

/** A chart of Mermaid, which code hosts draw; both axes are labelled with their unit. */
const chart = (title, x, y, rows, column) =>
  [
    '```mermaid',
    'xychart-beta',
    `  title "${title}"`,
    `  x-axis "${x}" [${rows.map(({ count }) => `"${count.toLocaleString('en-US')}"`).join(', ')}]`,
    `  y-axis "${y}" 0 --> ${Math.ceil(Math.max(...rows.map((row) => row[column])) * 1.2)}`,
    `  bar [${rows.map((row) => Number(row[column].toPrecision(2))).join(', ')}]`,
    '```',
  ].join('\n')

/** A worker of its own for each count: what one leaves must not count for the next. */
async function alone(directory, order, value) {
  mkdirSync(directory)
  const worker = await Worker.start(script('worker', 'own', directory))
  const answer = JSON.parse(await worker.ask(order, value))
  await worker.kill()
  return answer
}

export async function growth({ directory }) {
  const held = []
  for (const count of [1, 10, 100, 1000, 10_000]) {
    const { pair, byPath, isHeld } = await alone(join(directory, `held-${count}`), 'beside', count)
    held.push({
      ...{ name: `${count} locks`, count, 'pair us': pair, 'by path us': byPath, 'isHeld us': isHeld },
    })
  }
  const waiters = []
  for (const count of [1, 10, 100, 1000, 5000])
    waiters.push(await each(join(directory, `waiters-${count}`), 1, count, 'waiters'))
  const paths = []
  for (const count of [1, 10, 100, 1000])
    paths.push(await each(join(directory, `paths-${count}`), count, count, 'paths'))
  const processes = []
  for (const count of [2, 4, 8, 16, 32, 64]) {
    mkdirSync(join(directory, `processes-${count}`))
    const row = await shares(join(directory, `processes-${count}`), 0, count, Math.ceil(1600 / count))
    const { 'us each': us, ratio, 'longest wait ms': longest } = row
    processes.push({
      ...{ name: `${count} processes`, count, 'per second': 1e6 / us, 'us each': us },
      ...{ 'longest wait ms': longest, ratio },
    })
  }
  return [
    { title: 'acquireLockSync and releaseSync, releaseLock(path) and isHeld beside held locks', rows: held },
    { title: 'calls of one process that wait for one path, in turn', rows: waiters },
    { title: 'paths that one process waits for, released together', rows: paths },
    { title: 'processes that acquire one lock again and again', rows: processes },
  ].map((table, index) => ({
    ...table,
    chart: chart(
      ...[
        ['A pair beside held locks', 'held locks', 'us', held, 'pair us'],
        ['A hand-over among waiters of one path', 'waiters', 'us', waiters, 'us each'],
        ['An acquisition among waiters of one path each', 'paths', 'us', paths, 'us each'],
        ['Acquisitions of one lock by all processes', 'processes', 'per second', processes, 'per second'],
      ][index],
    ),
  }))
}

async function each(directory, paths, count, what) {
  const row = await crowd(directory, paths, count)
  return {
    ...{ name: `${count} ${what}`, count, 'us each': (row['ms until all acquired'] * 1000) / count },
    ...{ 'CPU %': row['CPU %'], 'threads more': row['threads more'] },
  }
}

export async function memory({ directory }) {
  const count = 8000
  const rows = []
  for (const [name, order] of [
    ['a held lock', 'occupyHeld'],
    ['a waiter', 'occupyWaiting'],
  ])
    rows.push({ name, bytes: await alone(join(directory, order), order, count) })
  return { title: `resident memory of the process for each of ${count}, without the kernel's part`, rows }
}
