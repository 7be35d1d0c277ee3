// Runs in a separate network namespace: a server, and a client in a second one whose link goes down while it holds
// the lock. Prints when the client detected the loss, and when the lock was free.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { postgresLocks } from 'reconcile-lock/postgres'
import { sleep } from '../support/time.mjs'
import { Postgres } from './postgres.mjs'

const sessionTimeout = Number(process.argv[2])

// TEST-NET-2 of RFC 5737. No packet leaves the namespaces.
const [SERVER, CLIENT] = ['198.51.100.1', '198.51.100.2']

const holder = `
  const { postgresLocks } = require('reconcile-lock/postgres')
  process.on('warning', ({ code }) => console.error(code))
  console.log('ready')
  process.stdin.once('data', async (url) => {
    const locks = postgresLocks({ connectionString: String(url), sessionTimeout: ${sessionTimeout} })
    const lock = await locks.acquireLock()
    lock.signal.addEventListener('abort', () => console.log(lock.signal.reason.code))
    console.log('held')
  })`

const ip = (...args: string[]) => execFileSync('ip', args)

/** Runs a command in the network of another process. */
const beside = ({ pid }: ChildProcess, ...command: string[]) =>
  execFileSync('nsenter', ['--net', '--target', String(pid), ...command])

function connect(child: ChildProcess): void {
  ip('link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth0', 'netns', String(child.pid))
  ip('addr', 'add', `${SERVER}/24`, 'dev', 'veth0')
  ip('link', 'set', 'veth0', 'up')
  beside(child, 'ip', 'addr', 'add', `${CLIENT}/24`, 'dev', 'veth0')
  beside(child, 'ip', 'link', 'set', 'veth0', 'up')
}

ip('link', 'set', 'lo', 'up')
const child = spawn('unshare', ['--net', process.execPath, '-e', holder], {
  cwd: import.meta.dirname,
  stdio: ['pipe', 'pipe', 'inherit'],
})
const lines = createInterface(child.stdout)
const says = async () => (await once(lines, 'line'))[0]
await says()
connect(child)
const postgres = await Postgres.start({ network: { address: SERVER, clients: `${CLIENT}/32` } })
try {
  child.stdin.write(postgres.url().replace('127.0.0.1', SERVER))
  await says()
  await sleep(sessionTimeout / 8, 'between two queries neither end waits for an acknowledgement')
  beside(child, 'ip', 'link', 'set', 'veth0', 'down')
  const start = performance.now()
  const passed = () => Math.round(performance.now() - start)
  const noticed = says().then((code) => ({ code, noticed: passed() }))
  const locks = postgresLocks({ connectionString: postgres.url() })
  const lock = await locks.acquireLock({ timeout: 4 * sessionTimeout })
  const free = passed()
  console.log(JSON.stringify({ ...(await noticed), free, from: lock.takenOver?.holder.pid === child.pid }))
  await lock.release()
  await locks.close()
} finally {
  child.kill('SIGKILL')
  await postgres.stop()
}
