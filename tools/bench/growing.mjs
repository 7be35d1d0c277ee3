// Measures how the cost grows with the number of held locks, waiters, paths and processes, and what a lock occupies.
import { crowd, shares } from './waiting.mjs'
import { makePlace, script, Worker } from './workers.mjs'

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
  const worker = await Worker.start(script('worker', 'own', makePlace(directory)))
  const answer = await worker.ask(order, value)
  await worker.kill()
  return answer
}

async function rowsFor(what, counts, figuresFor) {
  const rows = []
  for (const count of counts) rows.push({ name: `${count} ${what}`, count, ...(await figuresFor(count)) })
  return rows
}

export async function growth({ directory }) {
  const eachOf = async (paths, count) => {
    const { 'ms until all acquired': milliseconds, ...cost } = await crowd(directory, paths, count)
    return { 'us each': (milliseconds * 1000) / count, ...cost }
  }
  const held = await rowsFor('locks', [1, 10, 100, 1000, 10_000], (count) =>
    alone(directory, 'beside', count),
  )
  const waiters = await rowsFor('waiters', [1, 10, 100, 1000, 5000], (count) => eachOf(1, count))
  const paths = await rowsFor('paths', [1, 10, 100, 1000], (count) => eachOf(count, count))
  const processes = await rowsFor('processes', [2, 4, 8, 16, 32, 64], async (count) => {
    const row = await shares(directory, 0, count, Math.ceil(1600 / count))
    const { 'us each': us, 'longest wait ms': longest, ratio } = row
    return { 'per second': 1e6 / us, 'us each': us, 'longest wait ms': longest, ratio }
  })
  return [
    {
      title: 'acquireLockSync and releaseSync, releaseLock(path) and isHeld beside held locks',
      rows: held,
      chart: chart('A pair beside held locks', 'held locks', 'us', held, 'pair us'),
    },
    {
      title: 'calls of one process that wait for one path, in turn',
      rows: waiters,
      chart: chart('A hand-over among waiters of one path', 'waiters', 'us', waiters, 'us each'),
    },
    {
      title: 'paths that one process waits for, released together',
      rows: paths,
      chart: chart('An acquisition among waiters of one path each', 'paths', 'us', paths, 'us each'),
    },
    {
      title: 'processes that acquire one lock again and again',
      rows: processes,
      chart: chart(
        ...['Acquisitions of one lock by all processes', 'processes', 'per second', processes, 'per second'],
      ),
    },
  ]
}

export async function memory({ directory }) {
  const count = 8000
  const rows = [
    { name: 'a held lock', bytes: await alone(directory, 'occupyHeld', count) },
    { name: 'a waiter', bytes: await alone(directory, 'occupyWaiting', count) },
  ]
  return { title: `resident memory of the process for each of ${count}, without the kernel's part`, rows }
}
