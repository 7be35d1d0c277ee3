// Measures how the cost grows with the number of held locks, waiters, paths and processes, and what a lock occupies.
import { crowd, shares } from './waiting.mjs'
import { command, makePlace, Worker } from './workers.mjs'

/** A row for each count, and a chart of Mermaid, which code hosts draw. Its axes are labelled with the unit. */
async function growing(title, what, counts, figuresFor, [name, axis, unit, column]) {
  const rows = []
  for (const count of counts) rows.push({ name: `${count} ${what}`, ...(await figuresFor(count)) })
  const values = rows.map((row) => row[column])
  const chart = `\`\`\`mermaid
xychart-beta
  title "${name}"
  x-axis "${axis}" [${counts.map((count) => `"${count.toLocaleString('en-US')}"`).join(', ')}]
  y-axis "${unit}" 0 --> ${Math.ceil(Math.max(...values) * 1.2)}
  bar [${values.map((value) => Number(value.toPrecision(2))).join(', ')}]
\`\`\``
  return { title, rows, chart }
}

/** A worker of its own for each count: what one leaves must not count for the next. */
async function alone(directory, order, value) {
  const worker = await Worker.start(command('own', makePlace(directory)))
  const answer = await worker.ask(order, value)
  await worker.kill()
  return answer
}

export async function growth({ directory }) {
  return [
    await growing(
      'acquireLockSync and releaseSync, releaseLock(path) and isHeld beside held locks',
      'locks',
      [1, 10, 100, 1000, 10_000],
      (count) => alone(directory, 'beside', count),
      ['A pair beside held locks', 'held locks', 'us', 'pair us'],
    ),
    await growing(
      'calls of one process that wait for one path, in turn',
      'waiters',
      [1, 10, 100, 1000, 5000],
      (count) => crowd(directory, 1, count),
      ['A hand-over among waiters of one path', 'waiters', 'us', 'us each'],
    ),
    await growing(
      'paths that one process waits for, released together',
      'paths',
      [1, 10, 100, 1000],
      (count) => crowd(directory, count, count),
      ['An acquisition among waiters of one path each', 'paths', 'us', 'us each'],
    ),
    await growing(
      'processes that acquire one lock again and again',
      'processes',
      [2, 4, 8, 16, 32, 64],
      (count) => shares(directory, 0, count, Math.ceil(1600 / count)),
      ['Acquisitions of one lock by all processes', 'processes', 'per second', 'per second'],
    ),
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
