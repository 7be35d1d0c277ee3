// A PostgreSQL server for tests: a new cluster in a temporary directory, on a free local port, not as root.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { root } from '../support/packages.mjs'
import { freePort } from '../support/port.mjs'
import { until } from '../support/time.mjs'

const INSTALLED = '/usr/lib/postgresql'
export const USER = 'keeper'
export const PASSWORD = 'p@ss:word/1'

const MEMORY = '/dev/shm'
/** The space that the clusters of a test run need, in bytes. */
const ROOM = 2 ** 31

/** The directory of the server's programs: the one in the environment, or Debian's. */
function programs(): string {
  const chosen = process.env.RECONCILE_TEST_POSTGRES_BIN
  if (chosen) return chosen
  const versions = existsSync(INSTALLED) ? readdirSync(INSTALLED).sort((a, b) => Number(b) - Number(a)) : []
  const [newest] = versions.filter((version) => existsSync(join(INSTALLED, version, 'bin/postgres')))
  if (newest === undefined) throw new Error('PostgreSQL is not installed: apt-get install postgresql')
  return join(INSTALLED, newest, 'bin')
}

/** The user that owns the cluster: the server refuses to run as root. */
export function owner(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  const [, , uid, gid] = /^postgres:.*$/m.exec(readFileSync('/etc/passwd', 'utf8'))?.[0].split(':') ?? []
  if (uid === undefined || gid === undefined) throw new Error('there is no user postgres')
  return { uid: Number(uid), gid: Number(gid) }
}

function hasRoom(path: string): boolean {
  if (!existsSync(path)) return false
  const { bavail, bsize } = statfsSync(path)
  return bavail * bsize >= ROOM
}

/** The clusters that tests copy, by version. Remove them after a change of the options of `initdb`. */
const CLUSTERS = join(root, 'target/clusters')

/** Copies a cluster and its owner; its server must not run. */
const copy = (from: string, to: string) => execFileSync('cp', ['-a', from, to])

/** The directory for a cluster: its thousand files take a tenth of the time in memory. */
const parent = (isDurable: boolean): string =>
  !isDurable && hasRoom(MEMORY) ? MEMORY : realpathSync(tmpdir())

interface Options {
  /** Another address to listen on, and the network that may connect to it. */
  network?: { address: string; clients: string }
  /** As in production: the cluster is on disk, and a commit waits for it. */
  isDurable?: boolean
}

/** A server that runs until the test file ends. */
export class Postgres {
  /** 0 until the server has been started. */
  port = 0
  /** The major version; 0 until the server has answered. */
  version = 0
  readonly #home: string
  readonly #bin = programs()
  readonly #as = owner()
  readonly #addresses = ['127.0.0.1']
  readonly #fsync: 'on' | 'off'
  #server: ChildProcess | undefined

  private constructor(isDurable = false) {
    this.#home = mkdtempSync(join(parent(isDurable), 'reconcile-postgres-'))
    this.#own(this.#home)
    this.#fsync = isDurable ? 'on' : 'off'
    process.once('exit', this.#cleanUp)
  }

  static async start({ network, isDurable }: Options = {}): Promise<Postgres> {
    const postgres = new Postgres(isDurable)
    postgres.#create()
    if (network) {
      postgres.#addresses.push(network.address)
      const rule = `host all all ${network.clients} scram-sha-256\n`
      appendFileSync(join(postgres.#data, 'pg_hba.conf'), rule)
    }
    await postgres.up()
    await postgres.sql(`CREATE ROLE ${USER} LOGIN PASSWORD '${PASSWORD}'`, 'postgres', 'postgres')
    await postgres.sql(`CREATE DATABASE ledger OWNER ${USER}`, 'postgres', 'postgres')
    return postgres
  }

  get #data(): string {
    return join(this.#home, 'data')
  }

  #own(path: string): void {
    if (this.#as) chownSync(path, this.#as.uid, this.#as.gid)
  }

  /** Writes a file of the server. */
  #write(path: string, text: string): void {
    writeFileSync(path, text)
    this.#own(path)
  }

  /** Copies a cluster that `initdb` has made once, which takes a tenth of the time. */
  #create(): void {
    const version = execFileSync(join(this.#bin, 'initdb'), ['--version'], { encoding: 'utf8' }).trim()
    const made = join(CLUSTERS, version.replaceAll(/[^\w.]+/g, '-'))
    if (!existsSync(made)) this.#make(made)
    copy(made, this.#data)
  }

  #make(cluster: string): void {
    const [password, data] = [join(this.#home, 'password'), join(this.#home, 'made')]
    this.#write(password, 'postgres')
    const args = ['-D', data, '-U', 'postgres', '--auth=trust', '--auth-host=scram-sha-256']
    execFileSync(
      join(this.#bin, 'initdb'),
      [...args, '-N', '-E', 'UTF8', '--locale=C', '--pwfile', password],
      {
        ...this.#as,
        cwd: this.#home,
        stdio: ['ignore', 'ignore', 'inherit'],
      },
    )
    mkdirSync(CLUSTERS, { recursive: true })
    const own = mkdtempSync(join(CLUSTERS, '.new-'))
    copy(data, join(own, 'data'))
    try {
      renameSync(join(own, 'data'), cluster)
    } catch (error) {
      // Another test was first.
      if (!existsSync(cluster)) throw error
    }
    for (const path of [own, data]) rmSync(path, { recursive: true, force: true })
  }

  /** Starts the server, the first time on a free port, and waits until it answers. */
  async up(): Promise<void> {
    const isNew = this.port === 0
    for (let tries = 1; ; tries += 1) {
      if (isNew) this.port = await freePort()
      const code = await this.#launch()
      if (code === undefined) return
      // Another test may have taken the port meanwhile.
      if (!isNew || tries === 3) throw new Error(`postgres ended with ${code}`)
    }
  }

  /** Returns the exit code of a server that has ended instead of answering. */
  async #launch(): Promise<number | undefined> {
    const settings = [
      `listen_addresses=${this.#addresses}`,
      `unix_socket_directories=${this.#home}`,
      'max_connections=200',
      'max_prepared_transactions=2',
      'log_min_messages=fatal',
      'shared_buffers=32MB',
      `fsync=${this.#fsync}`,
    ]
    const args = ['-D', this.#data, '-p', String(this.port), ...settings.flatMap((each) => ['-c', each])]
    const server = spawn(join(this.#bin, 'postgres'), args, {
      ...this.#as,
      cwd: this.#home,
      stdio: ['ignore', 'ignore', process.env.POSTGRES_LOG ? 'inherit' : 'ignore'],
    })
    this.#server = server
    await until<unknown>(
      () => server.exitCode !== null || this.#readVersion().catch(() => false),
      'postgres answers',
    )
    return server.exitCode ?? undefined
  }

  /** By the socket in its directory: the port may be that of another server. */
  async #readVersion(): Promise<number> {
    const where = { host: this.#home, port: this.port, user: 'postgres', database: 'postgres' }
    const query = `SELECT current_setting('server_version_num') AS number`
    const { rows } = await connected(where, (client) => client.query(query))
    this.version = Math.floor(Number(rows[0]?.number) / 10_000)
    return this.version
  }

  /** A standby of this server on this machine, to which it streams. */
  async standby(): Promise<Postgres> {
    const standby = new Postgres()
    const label = await this.#copyTo(standby.#data)
    const from = `primary_conninfo = 'host=${this.#home} port=${this.port} user=postgres'\n`
    appendFileSync(join(standby.#data, 'postgresql.auto.conf'), from)
    standby.#write(join(standby.#data, 'backup_label'), label)
    standby.#write(join(standby.#data, 'standby.signal'), '')
    await standby.up()
    await until(() => standby.#isStreaming(), 'the standby streams')
    return standby
  }

  /** Copies the cluster while its server runs; returns the `backup_label` that the copy needs. */
  #copyTo(directory: string): Promise<string> {
    const [start, stop] =
      this.version < 15
        ? [`pg_start_backup('standby', true, false)`, 'pg_stop_backup(false, false)']
        : [`pg_backup_start('standby', true)`, 'pg_backup_stop(false)']
    // `tar` accepts that files change or disappear meanwhile. The standby streams the WAL.
    const copy = `tar -C "$0" --exclude ./postmaster.pid --exclude './pg_wal/*' --exclude './pg_stat_tmp/*' -c . |
      tar -C "$1" -x`
    mkdirSync(directory)
    return this.#connected('postgres', 'postgres', async (client) => {
      await client.query(`SELECT ${start}`)
      execFileSync('sh', ['-c', copy, this.#data, directory])
      return (await client.query(`SELECT labelfile FROM ${stop}`)).rows[0].labelfile
    })
  }

  async #isStreaming(): Promise<boolean> {
    const receivers = await this.sql('SELECT FROM pg_stat_wal_receiver', 'postgres', 'postgres')
    return receivers.length > 0
  }

  /** Disconnects a standby from its primary: it gets no later transaction. */
  async cutOff(): Promise<void> {
    for (const text of [`ALTER SYSTEM SET primary_conninfo = ''`, 'SELECT pg_reload_conf()'])
      await this.sql(text, 'postgres', 'postgres')
    await until(async () => !(await this.#isStreaming()), 'the standby is cut off')
  }

  /** Makes a standby accept writes. */
  async promote(): Promise<void> {
    await this.sql('SELECT pg_promote()', 'postgres', 'postgres')
  }

  /** @param how `SIGINT` is the fast way, `SIGQUIT` the immediate one, as after a crash */
  async down(how: 'SIGINT' | 'SIGQUIT' = 'SIGINT'): Promise<void> {
    const server = this.#server
    if (!server || server.exitCode !== null || server.signalCode !== null) return
    const exit = once(server, 'exit')
    server.kill(how)
    await exit
  }

  async stop(): Promise<void> {
    await this.down('SIGQUIT')
    rmSync(this.#home, { recursive: true, force: true })
    process.off('exit', this.#cleanUp)
  }

  /** Stops the server and removes its files if the process ends early. */
  readonly #cleanUp = (): void => {
    this.#server?.kill('SIGQUIT')
    // The server removes this file when its last process has ended; its processes may write until then.
    const sleeper = new Int32Array(new SharedArrayBuffer(4))
    const running = join(this.#data, 'postmaster.pid')
    for (const end = Date.now() + 5000; existsSync(running) && Date.now() < end; )
      Atomics.wait(sleeper, 0, 0, 5)
    rmSync(this.#home, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 })
  }

  url(
    database = 'ledger',
    user = USER,
    password = user === USER ? PASSWORD : user,
    port = this.port,
  ): string {
    return `postgres://${user}:${encodeURIComponent(password)}@127.0.0.1:${port}/${database}`
  }

  /** Waits until `count` sessions wait for a lock; returns their process ids. */
  async queues(count: number): Promise<number[]> {
    const text = `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND NOT granted`
    let waiting: { pid: number }[] = []
    await until(async () => {
      waiting = await this.sql(text)
      return waiting.length === count
    }, `${count} sessions wait`)
    return waiting.map(({ pid }) => pid)
  }

  /** Runs a statement on a new connection. */
  sql<R extends pg.QueryResultRow>(text: string, database = 'ledger', user = USER): Promise<R[]> {
    return this.#connected(database, user, async (client) => (await client.query<R>(text)).rows)
  }

  #connected<T>(database: string, user: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
    return connected({ connectionString: this.url(database, user) }, use)
  }
}

async function connected<T>(where: pg.ClientConfig, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(where)
  client.on('error', () => {})
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}
