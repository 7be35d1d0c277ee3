// Tests that cannot pass in a runtime, and what is missing there. Each is run all the same: see `suite.mjs`.

/** `runtimes`: kinds, or names with their version. */
export const exceptions = []
