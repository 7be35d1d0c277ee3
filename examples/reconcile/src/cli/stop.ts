import { constants } from 'node:os'

/** Asked to end, a run finishes the posting it is at: cutting it off would leave a payment in doubt. */
export class StopRequest {
  #signal: 'SIGINT' | 'SIGTERM' | undefined

  constructor() {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      // `once`: whoever asks a second time gets what the system does by default.
      process.once(signal, () => {
        this.#signal ??= signal
      })
    }
  }

  /** The exit code of a run that was asked to end, as shells have it. */
  get exitCode(): number | undefined {
    return this.#signal && 128 + constants.signals[this.#signal]
  }
}
