// The completion scripts in the shells themselves.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { bin, cli } from '../support/cli.mjs'
import { directory } from '../support/directory.mjs'
import { hasTerminal, Terminal } from '../support/terminal.mjs'

const COMMANDS = ['break', 'completion', 'run', 'sql', 'status']

/** A directory with the scripts and some files, and `reconcile-lock` in PATH; skips without the shell. */
function prepare(t: TestContext, shell: string): { cwd: string; env: NodeJS.ProcessEnv } | undefined {
  if (spawnSync(shell, ['--version']).error) return void t.skip(`${shell} is not installed`)
  const cwd = directory(t)
  mkdirSync(join(cwd, 'bin'))
  symlinkSync(bin, join(cwd, 'bin/reconcile-lock'))
  for (const name of ['pay ments.lock', 'payments.lock']) writeFileSync(join(cwd, name), '')
  const { code, stdout, stderr } = cli(cwd, ['completion', shell])
  assert.equal(code, 0, stderr)
  writeFileSync(join(cwd, 'script'), stdout)
  const home = { HOME: cwd, XDG_CONFIG_HOME: cwd, XDG_DATA_HOME: cwd }
  return { cwd, env: { ...process.env, ...home, PATH: `${join(cwd, 'bin')}${delimiter}${process.env.PATH}` } }
}

type Complete = (...words: string[]) => string[]

/** The completions of the last word in each shell, sorted. */
const shells: Record<string, (t: TestContext) => Complete | undefined> = {
  bash(t) {
    const where = prepare(t, 'bash')
    const script = `source ./script; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _reconcile_lock
      ((\${#COMPREPLY[@]} == 0)) || printf '%s\\n' "\${COMPREPLY[@]}"`
    return (
      where &&
      ((...words) => linesOf(spawnSync('bash', ['-c', script, 'bash', 'reconcile-lock', ...words], where)))
    )
  },
  fish(t) {
    const where = prepare(t, 'fish')
    const script = 'source ./script; complete -C (string join " " -- $argv)'
    return (
      where &&
      ((...words) =>
        linesOf(spawnSync('fish', ['--no-config', '-c', script, 'reconcile-lock', ...words], where)).map(
          (line) => line.replace(/\t.*/, ''),
        ))
    )
  },
}

function linesOf({ status, stdout, stderr }: ReturnType<typeof spawnSync>): string[] {
  assert.equal(status, 0, String(stderr))
  assert.equal(String(stderr), '')
  return [...new Set(String(stdout).split('\n').filter(Boolean))].sort()
}

/** The long options that the help of a command lists. */
const listed = (t: TestContext, command: string): string[] =>
  [...cli(directory(t), [command, '--help']).stdout.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)]
    .map(([, name = '']) => name)
    .sort()

for (const [shell, start] of Object.entries(shells))
  test(`${shell} completes commands, options and files`, (t) => {
    const complete = start(t)
    if (!complete) return
    assert.deepEqual(
      complete('').filter((word) => !word.startsWith('-')),
      COMMANDS,
    )
    assert.deepEqual(complete('st'), ['status'])
    for (const command of COMMANDS) assert.deepEqual(complete(command, '--'), listed(t, command), command)
    assert.deepEqual(complete('run', '--confl'), ['--conflict-exit-code'])
    assert.deepEqual(complete('status', '--js'), ['--json'])
    assert.deepEqual(complete('completion', 'z'), ['zsh'])
    assert.deepEqual(complete('run', '--wait', 'f'), ['forever'])
    assert.deepEqual(complete('run', '--file', 'payments'), ['payments.lock'])
    assert.deepEqual(complete('run', 'payments'), ['payments.lock'])
    assert.deepEqual(complete('run', '--file', 'a', '--', 'reconcile-l'), ['reconcile-lock'])
    assert.deepEqual(complete('run', '--file', 'a', '--', 'cat', 'payments'), ['payments.lock'])
  })

test('bash completes the command after a lock file', (t) => {
  const complete = shells.bash?.(t)
  assert.ok(complete)
  assert.deepEqual(complete('run', '-w', '5', 'a', 'reconcile-l'), ['reconcile-lock'])
  assert.deepEqual(complete('run', '--file', '=', 'pay'), ['pay ments.lock', 'payments.lock'])
  assert.deepEqual(complete('run', '--file', '=', 'a', '--confl'), ['--conflict-exit-code'])
  assert.deepEqual(complete('run', '--message', ''), [])
})

/** A shell in a terminal, with the script. */
async function shellIn(t: TestContext, shell: string, command: string): Promise<Terminal | undefined> {
  const where = prepare(t, shell)
  if (!where || !hasTerminal(t)) return undefined
  const terminal = new Terminal(t, command, where.cwd, 120, `PATH=${where.cwd}/bin:$PATH HOME=${where.cwd}`)
  await terminal.shows(/ready> /)
  terminal.type(
    `${shell === 'zsh' ? 'autoload -Uz compinit; compinit -u -D; ' : ''}source ./script; echo sour""ced\n`,
  )
  await terminal.shows(/sourced\r\n[\s\S]*ready> /)
  return terminal
}

test('bash completes by the Tab key', async (t) => {
  const terminal = await shellIn(t, 'bash', "env PS1='ready> ' TERM=dumb bash --norc --noprofile -i")
  if (!terminal) return
  terminal.type('reconcile-lock run --file "pay m\t')
  await terminal.shows(/--file "pay ments\.lock" $/)
  terminal.type('--confl\t')
  await terminal.shows(/--conflict-exit-code $/)
})

const CTRL_U = '\x15'
test('zsh completes by the Tab key', async (t) => {
  const terminal = await shellIn(t, 'zsh', "env PS1='ready> ' TERM=dumb zsh -f -i")
  if (!terminal) return
  for (const [typed, shown] of [
    ['st', /status $/],
    ['--file payments.lock st', /status $/],
    ['completion z', /completion zsh ?$/],
    ['run --confl', /--conflict-exit-code $/],
    ['run --wait f', /--wait forever $/],
    ['run --file paym', /--file payments\.lock $/],
    ['run paym', /run payments\.lock $/],
    ['run -n a ./paym', /run -n a \.\/payments\.lock $/],
    ['run --file a -- reconcile-l', /-- reconcile-lock $/],
    ['run --file a -- cat paym', /-- cat payments\.lock $/],
  ] as const) {
    // The screen may still end with the line before.
    const from = terminal.screen.length
    terminal.type(`reconcile-lock ${typed}\t`)
    await terminal.shows(shown, from)
    terminal.type(CTRL_U)
  }
  for (const command of COMMANDS) {
    const from = terminal.screen.length
    terminal.type(`reconcile-lock ${command} --\t\t`)
    const options = listed(t, command)
    assert.ok(options.length > 0, command)
    for (const option of options) await terminal.shows(new RegExp(`${option}\\b`), from)
    terminal.type(CTRL_U)
  }
})
