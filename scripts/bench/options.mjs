// The command line of the benchmark.
import { parseArgs } from 'node:util'
import { enough } from './statistics.mjs'

export const sectionNames = [
  'pairs',
  'handover',
  'killed',
  'fairness',
  'wakeups',
  'diagnostics',
  'idle',
  'load',
  'postgres',
]

export const help = `Usage: npm run bench -- [options]

  --only NAME,...  what to measure (default: all of it)
                     pairs        acquire and release, and refused acquires, beside other locks
                     handover     from a release until a waiting process holds the lock
                     killed       from SIGKILL of the holder until a waiting process holds the lock
                     fairness     16 processes that each want the lock 200 times
                     wakeups      processor time that a release costs each process that is not next
                     diagnostics  what the diagnostics channels cost, with and without listeners
                     idle         processor time and threads of 200 waiters
                     load         what require('reconcile-lock') adds to the start of a process
                     postgres     acquire and release, and from a release until a waiting process holds the lock,
                                  by locks on PostgreSQL
  --rounds N       how often pairs, diagnostics and postgres run each contender (default 21; the median is reported)
  --samples N      how often handover, killed and postgres run each fast contender (default ${enough}; a p99 takes
                   ${enough}); the slow ones run less often
  --no-build       the addon and the tests are built already
  --json FILE      also write every figure to FILE
  --check          exit with 1 if a target is missed
  --help           show this`

/** What is wrong with the command line. */
export class UsageError extends Error {}

function whole(name, value) {
  const number = Number(value)
  if (!Number.isSafeInteger(number) || number < 1)
    throw new UsageError(`--${name} ${value}: a whole number from 1`)
  return number
}

function chosen(value) {
  const names = value.split(',')
  const unknown = names.find((name) => !sectionNames.includes(name))
  if (unknown !== undefined) throw new UsageError(`--only ${unknown}: one of ${sectionNames.join(', ')}`)
  return sectionNames.filter((name) => names.includes(name))
}

function parse(args) {
  try {
    return parseArgs({
      args,
      options: {
        only: { type: 'string', default: sectionNames.join() },
        rounds: { type: 'string', default: '21' },
        samples: { type: 'string', default: String(enough) },
        'no-build': { type: 'boolean', default: false },
        json: { type: 'string' },
        check: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values
  } catch (error) {
    throw new UsageError(error.message)
  }
}

/** @param {string[]} args */
export function readOptions(args) {
  const { only, rounds, samples, json, check, help, 'no-build': built } = parse(args)
  return {
    sections: chosen(only),
    rounds: whole('rounds', rounds),
    samples: whole('samples', samples),
    json,
    check,
    help,
    built,
  }
}
