import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'

/** A TCP proxy between a client and a server that can drop all data, and the ends of connections too. */
export class Line {
  readonly port: number
  readonly #close: () => void
  readonly #sockets: Set<Socket>
  isSilent = false
  /** Changes what the server sends. */
  rewrite = (bytes: Buffer): Buffer => bytes
  /** The connections whose answers and ends are dropped, by their number from 0. */
  readonly silent = new Set<number>()
  /** The connections whose data is dropped in both directions. */
  readonly cut = new Set<number>()
  /** The delay of data to the server, in milliseconds. */
  latency = 0

  private constructor(port: number, sockets: Set<Socket>, close: () => void) {
    this.port = port
    this.#sockets = sockets
    this.#close = close
  }

  static async start(t: TestContext, to: number): Promise<Line> {
    const sockets = new Set<Socket>()
    let connections = 0
    const server = createServer({ allowHalfOpen: true }, (near) => {
      const number = connections++
      const isSilent = (end: Socket) =>
        line.isSilent || line.cut.has(number) || (end === far && line.silent.has(number))
      const far = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true })
      for (const [from, into] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(from)
        const late = (act: () => unknown) => setTimeout(act, from === near ? line.latency : 0)
        const changed = (bytes: Buffer) => (from === far ? line.rewrite(bytes) : bytes)
        from.on('data', (bytes) => isSilent(from) || late(() => into.write(changed(bytes))))
        from.on('end', () => isSilent(far) || late(() => into.end()))
        from.on('error', () => line.silent.has(number) || into.destroy())
        from.on('close', () => sockets.delete(from))
      }
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    const line = new Line(port, sockets, () => server.close())
    t.after(() => line.stop())
    return line
  }

  stop(): void {
    this.#close()
    for (const socket of this.#sockets) socket.destroy()
  }
}
