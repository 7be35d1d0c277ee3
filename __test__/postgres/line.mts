import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { TestContext } from 'node:test'

/** A TCP proxy between a client and a server that can drop all data, and the ends of connections too. */
export class Line {
  readonly port: number
  readonly #close: () => void
  readonly #sockets: Set<Socket>
  isSilent = false
  /** The delay of data to the server, in milliseconds. */
  latency = 0

  private constructor(port: number, sockets: Set<Socket>, close: () => void) {
    this.port = port
    this.#sockets = sockets
    this.#close = close
  }

  static async start(t: TestContext, to: number): Promise<Line> {
    const sockets = new Set<Socket>()
    const server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true })
      for (const [from, into] of [
        [near, far],
        [far, near],
      ] as const) {
        sockets.add(from)
        const late = (act: () => unknown) => setTimeout(act, from === near ? line.latency : 0)
        from.on('data', (bytes) => line.isSilent || late(() => into.write(bytes)))
        from.on('end', () => line.isSilent || late(() => into.end()))
        from.on('error', () => into.destroy())
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
