// `npm run demo`: shows the example tool with two concurrent runs, two concurrent token refreshes, a killed run, and
// the run after it. The example's own tests check the same.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout } from 'node:timers/promises'
import { prepareExample } from './example.mjs'
import { build, install } from './steps.mjs'

install()
build()
const example = prepareExample()
const children = []
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL')
})

/** Starts the tool in a data directory and shows its output, each line under `name`. */
function start(name, dir, ...args) {
  const print = (line) => console.log(`  ${name.padEnd(7)} | ${line}`)
  print(['$ reconcile', ...args].join(' '))
  const words = [join(example, 'dist/src/main.js'), ...args, '--dir', dir]
  const env = { ...process.env, NODE_DEBUG: args[0] === 'ping' ? 'reconcile-lock' : '' }
  const child = spawn(process.execPath, words, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  children.push(child)
  const run = { child, output: '' }
  for (const input of [child.stdout, child.stderr])
    createInterface({ input }).on('line', (line) => {
      run.output += `${line}\n`
      // Of the `NODE_DEBUG` output only the wait: the other lines of two processes are unordered.
      const [, event] = /^RECONCILE-LOCK \d+: (\w+)/.exec(line) ?? []
      if (event === undefined || event === 'waiting') print(event ? '(waits for the lock)' : line)
    })
  run.ended = once(child, 'close').then(([code, signal]) => {
    print(`= ended by ${signal ?? `exit code ${code}`}`)
    return signal ?? code
  })
  return run
}

/** Runs the tool; the demo exits with 1 if the tool does not end as expected. */
async function show(expected, ...args) {
  const run = start(...args)
  expect(await run.ended, expected)
  return run.output
}
function expect(found, expected) {
  if (String(found) !== String(expected)) throw new Error(`demo: ended by ${found}, not by ${expected}`)
}
/** Polls until a condition is true; none of the runs may end before. */
async function until(isTrue, runs) {
  while (!isTrue()) {
    if (runs.some(({ child }) => child.exitCode !== null)) throw new Error('demo: a run ended too early')
    await setTimeout(5)
  }
}
const section = (title) => console.log(`\n--- ${title}`)

function dataDirectory(name) {
  const dir = join(example, name)
  cpSync(join(example, 'data'), dir, { recursive: true })
  return dir
}

/** The invoices in a file, without the last line, which may be incomplete. */
function invoices(dir, file, isWanted = () => true) {
  const path = join(dir, file)
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : []
  return lines.map((line) => JSON.parse(line)).flatMap((line) => (isWanted(line) ? line.invoice : []))
}
const booked = (dir) => invoices(dir, 'accounting.jsonl')
const posted = (dir) => invoices(dir, 'audit.log', ({ event }) => event === 'posted')

section('What there is to do: a dry run')
const together = dataDirectory('two-at-once')
const dry = await show(0, 'dry', together)
const expected = [...dry.matchAll(/^would post (\S+) /gm)].map(([, invoice]) => invoice).sort()

section('Two runs at once in one directory: one is refused with exit code 75')
const pair = ['A', 'B'].map((name) => start(name, together, '--execute', '--pause-ms', '250').ended)
expect((await Promise.all(pair)).sort(), [0, 75])
expect(booked(together).sort(), expected)
await show(0, 'status', together, 'status')

section('Two commands at once with a token that has expired: one refreshes it, the other waits for that')
for (const name of ['token.json', 'authority.jsonl']) {
  const path = join(together, name)
  writeFileSync(path, readFileSync(path, 'utf8').replace(/"expiresAt": ?\d+/g, '"expiresAt":0'))
}
// The demo holds the lock until both wait for it. Imported here, because the addon had to be built first.
const { acquireLock } = await import('reconcile-lock')
const gate = await acquireLock({ cwd: together, file: '.xero-token-refresh.lock' })
const pings = ['P', 'Q'].map((name) => start(name, together, 'ping'))
await until(() => pings.every(({ output }) => output.includes(': waiting ')), pings)
await gate.release()
expect(await Promise.all(pings.map(({ ended }) => ended)), [0, 0])

section('A run is killed after a posting has arrived and before its journal has it')
const dir = dataDirectory('killed')
const victim = start('C', dir, '--execute', '--pause-ms', '2000')
const inDoubt = () => booked(dir).filter((invoice) => !posted(dir).includes(invoice))
await until(() => posted(dir).length >= 2 && inDoubt().length > 0, [victim])
victim.child.kill('SIGKILL')
expect(await victim.ended, 'SIGKILL')
const [doubtful] = inDoubt()
await show(0, 'status', dir, 'status')

section(`The next run takes over the lock, posts all others, and asks for a look at ${doubtful}`)
const started = performance.now()
await show(0, 'D', dir, '--execute')
const took = Math.round(performance.now() - started)
expect(booked(dir).sort(), expected)

section(`A person looks ${doubtful} up at the accounting service and settles it`)
await show(0, 'E', dir, '--execute', '--resolve', `${doubtful}=posted`)
expect(posted(dir).sort(), expected)
await show(0, 'status', dir, 'status')
console.log(
  `\ndemo: each of ${expected.length} invoices is posted once; the run after the killed one took ${took} ms`,
)
