// `npm run demo`: the example tool with two runs at once, a token that two need at once, a run that is killed half-way,
// and the run after it. The example's own tests check the same in detail.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { prepareExample } from './example.mjs'
import { build, install } from './steps.mjs'

install()
build()
const example = prepareExample()
const running = new Set()
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** Starts the tool in a data directory and shows what it prints, each line under `name`. */
function start(name, dir, ...args) {
  const print = (line) => console.log(`  ${name.padEnd(7)} | ${line}`)
  print(['$ reconcile', ...args].join(' '))
  const main = join(example, 'dist/src/main.js')
  const env = { ...process.env, NODE_DEBUG: args[0] === 'ping' ? 'reconcile-lock' : '' }
  const child = spawn(process.execPath, [main, ...args, '--dir', dir], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  const output = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'])
    child[stream].setEncoding('utf8').on('data', (chunk) => {
      output[stream] += chunk
      for (const line of chunk.trimEnd().split('\n')) {
        // Of what `NODE_DEBUG` prints only the wait: the other lines of two processes are unordered.
        const [, event] = /^RECONCILE-LOCK \d+: (\w+)/.exec(line) ?? []
        if (event === undefined || event === 'waiting') print(event ? '(waits for the lock)' : line)
      }
    })
  const outcome = once(child, 'close').then(([code, signal]) => {
    running.delete(child)
    print(`= ended by ${signal ?? `exit code ${code}`}`)
    return { name, pid: child.pid, code, signal, ...output }
  })
  return { name, child, output, outcome }
}
const reconcile = (name, dir, ...args) => start(name, dir, ...args).outcome
const section = (title) => console.log(`\n--- ${title}`)

/** Ends the demo with 1 if a claim does not hold. */
function check(holds, claim, about = '') {
  console.log(`  ${holds ? 'ok' : 'NOT SO'}: ${claim}`)
  if (holds) return
  console.error(`\ndemo: this does not hold: ${claim}\n${about}`)
  process.exit(1)
}

function dataDirectory(name) {
  const dir = join(example, name)
  mkdirSync(dir)
  for (const file of ['bank.csv', 'invoices.csv']) cpSync(join(example, 'data', file), join(dir, file))
  return dir
}

/** The lines of a file of JSON, of which the last one may still be written. */
function jsonLines(dir, name) {
  const path = join(dir, name)
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : []
  return lines.map((line) => JSON.parse(line))
}
const booked = (dir) => jsonLines(dir, 'accounting.jsonl').map(({ invoice }) => invoice)
const posted = (dir) =>
  jsonLines(dir, 'audit.log').flatMap(({ event, invoice }) => (event === 'posted' ? invoice : []))
const same = (some, others) => some.toSorted().join() === others.toSorted().join()

async function checkEnd(dir, expected) {
  check(
    same(booked(dir), expected),
    `the service booked each of the ${expected.length} invoices once`,
    booked(dir),
  )
  check(same(posted(dir), expected), 'the audit log has the same', posted(dir))
  const { stdout } = await reconcile('status', dir, 'status')
  check(/^lock: free\b/m.test(stdout), 'the lock is free')
  check(stdout.includes(`posted: ${expected.length}\n`), `${expected.length} invoices are posted`)
}

section('What there is to do: a dry run')
const together = dataDirectory('two-at-once')
const dry = await reconcile('dry', together)
const expected = [...dry.stdout.matchAll(/^would post (\S+) /gm)].map(([, invoice]) => invoice)
check(dry.code === 0 && expected.length > 3, `${expected.length} invoices are to be posted`, dry.stderr)

section('Two runs at once in one directory')
const pair = ['A', 'B'].map((name) => start(name, together, '--execute', '--pause-ms', '250'))
const early = await Promise.race(pair.map(({ outcome }) => outcome))
const [other] = pair.filter(({ name }) => name !== early.name)
check(early.code === 75, `${early.name} is refused with exit code 75`, early.stderr)
check(early.stderr === 'Another reconcile run is in progress\n', 'it prints why', early.stderr)
const winner = await other.outcome
check(winner.code === 0, `${winner.name} succeeds`, winner.stderr)
await checkEnd(together, expected)

section('Two commands at once with a token that has expired: one refreshes it, the other waits for that')
for (const name of ['token.json', 'authority.jsonl']) {
  const path = join(together, name)
  writeFileSync(path, readFileSync(path, 'utf8').replace(/"expiresAt": ?\d+/g, '"expiresAt":0'))
}
const before = jsonLines(together, 'authority.jsonl').length
// The demo holds the lock until both wait for it. The addon had to be built first.
const { acquireLock } = await import('reconcile-lock')
const gate = await acquireLock({ cwd: together, file: '.xero-token-refresh.lock' })
const pings = ['P', 'Q'].map((name) => start(name, together, 'ping'))
while (!pings.every(({ output }) => output.stderr.includes(': waiting '))) {
  if (pings.some(({ child }) => child.exitCode !== null)) check(false, 'both wait for the lock')
  await setTimeout(5)
}
await gate.release()
for (const { name, code, stdout, stderr } of await Promise.all(pings.map(({ outcome }) => outcome)))
  check(code === 0 && stdout.includes('accepts our token'), `${name} has a token that is accepted`, stderr)
const requests = jsonLines(together, 'authority.jsonl').slice(before)
check(
  requests.length === 1 && requests[0].by === 'refresh',
  'one of them refreshed it',
  JSON.stringify(requests),
)

section('A run is killed when a posting has arrived and the run does not know it yet')
const dir = dataDirectory('killed')
const victim = start('C', dir, '--execute', '--pause-ms', '2000')
const inDoubt = () => booked(dir).filter((invoice) => !posted(dir).includes(invoice))
while (posted(dir).length < 2 || inDoubt().length === 0) {
  if (victim.child.exitCode !== null) check(false, 'C can be caught half-way', victim.output.stderr)
  await setTimeout(5)
}
victim.child.kill('SIGKILL')
const killed = await victim.outcome
const [doubtful] = inDoubt()
check(doubtful !== undefined, `the service has booked ${doubtful}, and the log has only the intent`)
const left = await reconcile('status', dir, 'status')
check(
  new RegExp(`^lock: stale\\b.*${killed.pid}`, 'ms').test(left.stdout),
  `status: stale, of process ${killed.pid}`,
)

section('The next run')
const started = performance.now()
const next = await reconcile('D', dir, '--execute')
const took = Math.round(performance.now() - started)
check(next.code === 0, `D ran without a wait, from start to end in ${took} ms`, next.stderr)
check(
  next.stderr.includes(`took over the lock of process ${killed.pid}: `),
  'it reports the take-over',
  next.stderr,
)
const flagged = [...next.stderr.matchAll(/^(\S+) .*: needs a look by a person/gm)].map(
  ([, invoice]) => invoice,
)
check(same(flagged, [doubtful]), `it asks for a look at ${doubtful} and at nothing else`, next.stderr)
check(same(booked(dir), expected), `it posted everything else, and did not post ${doubtful} again`)

section(`A person looks ${doubtful} up at the accounting service and settles it`)
const settled = await reconcile('E', dir, '--execute', '--resolve', `${doubtful}=posted`)
check(settled.code === 0 && settled.stderr === '', 'E reports nothing', settled.stderr)
await checkEnd(dir, expected)
console.log(`\ndemo: every claim holds; the killed run was taken over in ${took} ms`)
