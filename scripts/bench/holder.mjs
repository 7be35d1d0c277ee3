// A process that holds a lock until its standard input ends, so that it never outlives the benchmark.
// Usage: node holder.mjs MODULE_URL DIRECTORY, where the module exports `acquireLock(cwd)`.
const [module, directory] = process.argv.slice(2)
const { acquireLock } = await import(module)
// The handle is kept: without it a lock might be tied to the garbage collector.
globalThis.lock = await acquireLock(directory)
process.stdin.on('end', () => process.exit(0)).resume()
console.log('held')
