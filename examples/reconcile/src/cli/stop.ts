import { constants } from 'node:os'

/** After a signal a run finishes its current posting: an interrupted one would leave a doubtful payment. */
export class StopRequest {
  #signal: 'SIGINT' | 'SIGTERM' | undefined

  constructor() {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      // `once`: a second signal has the default action of the system.
      process.once(signal, () => {
        this.#signal ??= signal
      })
    }
  }

  /** The exit code after a signal, as of a shell. */
  get exitCode(): number | undefined {
    return this.#signal && 128 + constants.signals[this.#signal]
  }
}
