// `npm run demo`: the example tool with two runs at once, a token that two want at once, a run killed
// half-way, and the run after it.
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
  return launch(name, dir, args, process.env)
}

/** As `start`, and shows when it waits for a lock. */
function startTraced(name, dir, ...args) {
  return launch(name, dir, args, { ...process.env, NODE_DEBUG: 'reconcile-lock' })
}

function launch(name, dir, args, env) {
  say(name, ['$ reconcile', ...args].join(' '))
  const main = join(example, 'dist/src/main.js')
  const child = spawn(process.execPath, [main, ...args, '--dir', dir], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  const output = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'])
    child[stream].setEncoding('utf8').on('data', (chunk) => {
      output[stream] += chunk
      for (const line of chunk.trimEnd().split('\n')) sayReadably(name, line)
    })
  const outcome = once(child, 'close').then(([code, signal]) => {
    running.delete(child)
    say(name, `= ended by ${signal ?? `exit code ${code}`}`)
    return { name, pid: child.pid, code, signal, ...output }
  })
  return { name, child, output, outcome }
}

const reconcile = (name, dir, ...args) => start(name, dir, ...args).outcome

function say(name, line) {
  console.log(`  ${name.padEnd(7)} | ${line}`)
}

/** Of what `NODE_DEBUG=reconcile-lock` prints only the wait: other lines of two processes are unordered. */
function sayReadably(name, line) {
  const [, event] = /^RECONCILE-LOCK \d+: (\w+)/.exec(line) ?? []
  if (event === undefined) say(name, line)
  else if (event === 'waiting') say(name, '(waits for the lock)')
}

function section(title) {
  console.log(`\n--- ${title}`)
}

/** Ends the demo with 1 if what it has just shown is not what it claims. */
function check(holds, claim, about = '') {
  console.log(`  ${holds ? 'ok' : 'NOT SO'}: ${claim}`)
  if (holds) return
  console.error(`\ndemo: this does not hold: ${claim}${about && `\n${about}`}`)
  process.exit(1)
}

function dataDirectory(name) {
  const dir = join(example, name)
  mkdirSync(dir)
  // Only these: somebody may have tried the tool in the sample directory.
  for (const file of ['bank.csv', 'invoices.csv']) cpSync(join(example, 'data', file), join(dir, file))
  return dir
}

function jsonLines(path) {
  if (!existsSync(path)) return []
  // A last line without its end is still being written.
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1)
  return lines.map((line) => JSON.parse(line))
}

const audit = (dir) => jsonLines(join(dir, 'audit.log'))
const booked = (dir) => jsonLines(join(dir, 'accounting.jsonl')).map(({ invoice }) => invoice)
const logged = (dir, event) => audit(dir).flatMap((line) => (line.event === event ? line.invoice : []))
const inState = (dir) =>
  JSON.parse(readFileSync(join(dir, 'state.json'), 'utf8')).posted.map(({ invoice }) => invoice)
const same = (some, others) => some.toSorted().join() === others.toSorted().join()

/** Compares three accounts that are kept apart: the service's books, the state file, the audit log. */
function checkPostedOnce(dir, expected) {
  const about = `expected ${expected}\nthe service booked ${booked(dir)}\nthe state has ${inState(dir)}`
  check(
    same(booked(dir), expected),
    `the service booked each of the ${expected.length} invoices exactly once`,
    about,
  )
  const agree = same(inState(dir), expected) && same(logged(dir, 'posted'), expected)
  check(agree, 'the state file and the audit log say the same', about)
}

async function checkFree(name, dir, posted) {
  const { stdout } = await reconcile(name, dir, 'status')
  check(/^lock: free\b/m.test(stdout), 'the lock is free')
  check(stdout.includes(`posted: ${posted}\n`), `${posted} invoices are posted`)
  check(!stdout.includes('needs a look'), 'nothing needs a look')
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
check(other.child.exitCode === null, `${other.name} is at work when ${early.name} has ended`, early.stderr)
check(
  early.code === 75,
  `${early.name} was refused with exit code 75`,
  `exit code ${early.code}\n${early.stderr}`,
)
check(early.stderr === 'Another reconcile run is in progress\n', 'it said why', early.stderr)
const winner = await other.outcome
check(winner.code === 0, `${winner.name} went through`, winner.stderr)
check(
  audit(together).every(({ pid }) => pid === winner.pid),
  `only ${winner.name} has posted anything`,
)
checkPostedOnce(together, expected)
await checkFree('status', together, expected.length)

section('Two commands at once with a token that has ended: one refreshes it, the other waits for that')
for (const name of ['token.json', 'authority.jsonl']) {
  const path = join(together, name)
  writeFileSync(path, readFileSync(path, 'utf8').replace(/"expiresAt": ?\d+/g, '"expiresAt":0'))
}
const requests = () => jsonLines(join(together, 'authority.jsonl')).map(({ by, pid }) => ({ by, pid }))
const before = requests().length
// Not at the top: the addon had to be built first.
const { acquireLock } = await import('../dist/index.js')
// The demo keeps the lock until both wait for it, or one might come when the other is done.
const gate = await acquireLock({ cwd: together, file: '.xero-token-refresh.lock' })
const pings = ['P', 'Q'].map((name) => startTraced(name, together, 'ping'))
while (!pings.every(({ output }) => output.stderr.includes(': waiting '))) {
  const gone = pings.find(({ child }) => child.exitCode !== null || child.signalCode !== null)
  if (gone) check(false, `${gone.name} waits for the lock`, (await gone.outcome).stderr)
  await setTimeout(5)
}
check(requests().length === before, 'both wait for the lock, and nobody has asked for a new token yet')
await gate.release()
const pinged = await Promise.all(pings.map(({ outcome }) => outcome))
for (const { name, code, stdout, stderr } of pinged)
  check(code === 0 && stdout.includes('accepts our token'), `${name} has a token that is accepted`, stderr)
const asked = requests().slice(before)
const renewer = pinged.find(({ pid }) => pid === asked[0]?.pid)
check(
  asked.length === 1 && asked[0].by === 'refresh' && renewer !== undefined,
  `only ${renewer?.name} refreshed it: the other waited, and used the token that it found then`,
  JSON.stringify(asked),
)
check(!existsSync(join(together, '.xero-token-refresh.lock')), 'the lock file of the refresh is gone')

section('A run is killed when a posting has arrived and the run does not know it yet')
const dir = dataDirectory('killed')
const victim = start('C', dir, '--execute', '--pause-ms', '2000')
/** Invoices that the service has booked while the log only has the intent. */
const inDoubt = () => {
  const posted = logged(dir, 'posted')
  return booked(dir).filter((invoice) => !posted.includes(invoice))
}
while (logged(dir, 'posted').length < 2 || inDoubt().length === 0) {
  if (victim.child.exitCode !== null) check(false, 'C can be caught half-way', (await victim.outcome).stderr)
  await setTimeout(5)
}
victim.child.kill('SIGKILL')
const killed = await victim.outcome
check(killed.signal === 'SIGKILL', 'C was killed')
const [doubtful] = inDoubt()
check(
  doubtful !== undefined,
  `the service has booked ${doubtful ?? 'an invoice'}, and the log says only that C was about to`,
)
const left = await reconcile('status', dir, 'status')
check(/^lock: stale\b/m.test(left.stdout), 'its lock is left behind, and status says that it is stale')
check(left.stdout.includes(`${killed.pid}`), `it names process ${killed.pid}`)

section('The next run')
const started = performance.now()
const next = await reconcile('D', dir, '--execute')
const took = Math.round(performance.now() - started)
check(next.code === 0, `D ran at once, from start to end in ${took} ms`, next.stderr)
check(
  next.stderr.includes(`took over the lock of process ${killed.pid}: `),
  'it says whom it took over from and why',
)
const flagged = [...next.stderr.matchAll(/^(\S+) .*: needs a look by a person/gm)].map(
  ([, invoice]) => invoice,
)
check(same(flagged, [doubtful]), `it asks for a look at ${doubtful} and at nothing else`, next.stderr)
check(same(booked(dir), expected), `it posted everything else, and did not post ${doubtful} again`)

section(`A person looks ${doubtful} up at the accounting service and settles it`)
const answer = booked(dir).includes(doubtful) ? 'posted' : 'retry'
console.log(`  The service's books ${answer === 'posted' ? 'have' : 'do not have'} it.`)
const settled = await reconcile('E', dir, '--execute', '--resolve', `${doubtful}=${answer}`)
check(settled.code === 0 && settled.stderr === '', 'E had nothing to complain about', settled.stderr)
checkPostedOnce(dir, expected)
await checkFree('status', dir, expected.length)

console.log(
  `\ndemo: two runs at once: one refused; two that need a new token: one refresh; ` +
    `one run killed: taken over in ${took} ms; ` +
    `${expected.length} of ${expected.length} invoices posted exactly once, both times`,
)
