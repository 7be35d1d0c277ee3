// What this project is made of and says: licences, bans and sources of the crates, and spelling. With --advisories,
// the known faults of crates too, whose database comes from the network.
import { join } from 'node:path'
import { run } from './steps.mjs'
import { tools } from './tools.mjs'

const withAdvisories = process.argv.includes('--advisories')
const bin = tools()
if (bin) {
  run(join(bin, 'cargo-deny'), ['--locked', 'check', 'bans', 'licenses', 'sources'])
  if (withAdvisories) run(join(bin, 'cargo-deny'), ['--locked', 'check', 'advisories'])
  run(join(bin, 'typos'), [])
} else console.log('cargo-deny, typos: skipped')
if (!withAdvisories) {
  console.log('advisories: skipped, as their database comes from the network: the workflows check them')
}
