// The command line of the storm.
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import { placeNames } from '../places.mjs'
import { variantNames } from './variants.mjs'

export const help = `Usage: npm run storm -- [options]

Many workers acquire, hold and release one lock, while some of them are killed, stopped and continued. Their
logs tell afterwards whether two ever held it at once.

  --seconds N          how long each variant runs (default 60)
  --workers N          how many take part, from 4 (default 16)
  --variant NAME,...   who takes part (default native):
                         native     Node.js processes
                         threads    the worker threads of two Node.js processes
                         bun        half of the processes are Bun's
                         old-peers  a third of the processes use the TypeScript original, which nothing can
                                    make safe: only overlaps that none of its removals explains are failures
                         control    only the TypeScript original: must show overlaps
                         all        all of these on tmpfs, and native in every other place
  --on PLACE,...       where the lock file is (default tmpfs): tmpfs, disk, overlayfs, nfs
  --seed N             repeats the schedule of kills and stops, and the random choices of the workers
                       (default: a random seed, which is printed)
  --no-build           the addon and the tests are built already
  --keep               keep the logs and the schedule; those of a failed run are always kept
  --help               show this

What this machine cannot do is skipped, with the reason. Exits with 1 if two held the lock at once, nobody held
it for more than 2.5 s, an error was none that the documentation names, or anything was left behind.`

/** What is wrong with the command line. */
export class UsageError extends Error {}

function whole(name, value, least) {
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN
  if (!Number.isSafeInteger(number) || number < least)
    throw new UsageError(`--${name} ${value}: a whole number from ${least}`)
  return number
}

function listed(name, value, known) {
  const chosen = value.split(',')
  const unknown = chosen.find((each) => !known.includes(each))
  if (unknown !== undefined) throw new UsageError(`--${name} ${unknown}: one of ${known.join(', ')}`)
  return chosen
}

/** Each variant in each place; without a place of its choice `all` takes every place for `native` alone. */
function plan(variants, places) {
  const names = variants.includes('all') ? variantNames : variants
  if (places) return names.flatMap((name) => places.map((on) => ({ name, on })))
  const first = names.map((name) => ({ name, on: placeNames[0] }))
  if (!variants.includes('all')) return first
  return [...first, ...placeNames.slice(1).map((on) => ({ name: 'native', on }))]
}

function parse(args) {
  try {
    return parseArgs({
      args,
      options: {
        seconds: { type: 'string', default: '60' },
        workers: { type: 'string', default: '16' },
        variant: { type: 'string', default: 'native' },
        on: { type: 'string' },
        seed: { type: 'string' },
        'no-build': { type: 'boolean', default: false },
        keep: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values
  } catch (error) {
    throw new UsageError(error.message)
  }
}

/** @param {string[]} args */
export function readOptions(args) {
  const { seconds, workers, variant, on, seed, keep, help, 'no-build': built } = parse(args)
  const variants = listed('variant', variant, [...variantNames, 'all'])
  const places = on === undefined ? undefined : listed('on', on, placeNames)
  return {
    seconds: whole('seconds', seconds, 1),
    workers: whole('workers', workers, 4),
    runs: plan(variants, places),
    seed: seed === undefined ? randomInt(2 ** 32) : whole('seed', seed, 0),
    keep,
    help,
    built,
  }
}
