// Globals that a test or another library may have replaced.

/** Another Promise, such as that of bluebird, has other results of `allSettled` and `any`. */
const NativePromise = (async () => {})().constructor as PromiseConstructor

const found: NodeJS.Process | undefined = globalThis.process

/**
 * A module of Node.js. Tests mock `fs` and others with `jest.mock`, which replaces what `require` returns.
 * @param require for Node.js before 20.16 and 22.3
 */
const builtin = <T>(name: string, require: () => T): T =>
  (found?.getBuiltinModule?.(name) as T | undefined) ?? require()

/** Tests replace the global one by a copy, `{ ...process, exit }`, which has no `on`. */
const process: NodeJS.Process =
  typeof found?.on === 'function' ? found : builtin('node:process', () => require('node:process'))

export { builtin, NativePromise, process }
