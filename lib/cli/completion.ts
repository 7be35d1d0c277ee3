// The completion scripts of the shells, made from the one table of options.
import {
  type CommandName,
  commands,
  type Option,
  type OptionName,
  options,
  optionsOf,
  SHELLS,
} from './option-table.js'
import type { CompletionCommand } from './options.js'

export const completion = ({ shell }: CompletionCommand): void => console.log({ bash, zsh, fish }[shell]())

const names = Object.keys(commands) as CommandName[]
const all = Object.entries(options) as [OptionName, Option][]
const withValue = all.filter(([, { value }]) => value !== undefined)

/** The options before a command. */
const early = all.filter(
  ([name, { of }]) => of.length === 0 || ['file', 'postgres', 'name', 'help'].includes(name),
)

const optionsAt = (command: CommandName | undefined) => (command === undefined ? early : optionsOf(command))

const dashed = (name: string): string => `${name.length > 1 ? '--' : '-'}${name}`

/** The spellings that a shell offers. */
const offered = ([name, { short }]: [OptionName, Option]): string[] =>
  [name, ...(short === undefined ? [] : [short])].map(dashed)

/** The spellings that a command line may have. */
const accepted = (option: [OptionName, Option]): string[] => [
  ...offered(option),
  ...(option[1].aliases ?? []).map(dashed),
]

/** A pattern of `case` in bash. */
const anyOf = (wanted: [OptionName, Option][]): string => wanted.flatMap(accepted).join('|')

/** The first part of a description, quoted for each of the shells. */
const brief = (text: string): string => quote(text.split(/;| \(|\. /)[0] ?? '')
const quote = (text: string): string => text.replaceAll("'", "'\\''")

/** The values that a shell offers; `file` is not a list. */
const wordsOf = ({ completes }: Option): string => (Array.isArray(completes) ? completes.join(' ') : '')

const join = (lines: string[]): string => lines.join('\n')

function bash(): string {
  const long = (command?: CommandName) => optionsAt(command).map(([name]) => `--${name}`)
  const cases = names.map((name) => `    ${name}) words='${long(name).join(' ')}' ;;`)
  const values = withValue.map((option) => {
    const [, { completes }] = option
    const offer =
      completes === 'file' ? '_reconcile_lock_files' : `_reconcile_lock_words '${wordsOf(option[1])}'`
    return `    ${anyOf([option])}) ${offer}; return ;;`
  })
  return `# bash completion of reconcile-lock
_reconcile_lock_words() { COMPREPLY=($(compgen -W "$1" -- "$cur")); }
_reconcile_lock_files() {
  local IFS=$'\\n'
  compopt -o filenames 2> /dev/null
  COMPREPLY=($(compgen -f -- "$cur"))
}
_reconcile_lock() {
  local cur=\${COMP_WORDS[COMP_CWORD]} option=\${COMP_WORDS[COMP_CWORD - 1]} command= inner= words= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i += 1)); do
    case \${COMP_WORDS[i]} in
    --) inner=$((i + 1)) && break ;;
    ${anyOf(withValue)}) ((i += 1)) && [[ \${COMP_WORDS[i]} != = ]] || ((i += 1)) ;;
    -*) ;;
    *)
      if [[ -z $command ]]; then command=\${COMP_WORDS[i]}
      elif [[ $command == run ]]; then inner=$((i + 1)) && break
      fi ;;
    esac
  done
  if [[ -n $inner ]]; then
    if declare -F _command_offset > /dev/null; then _command_offset "$inner"
    elif ((inner == COMP_CWORD)); then COMPREPLY=($(compgen -c -- "$cur"))
    else _reconcile_lock_files
    fi
    return
  fi
  [[ $option != = ]] || option=\${COMP_WORDS[COMP_CWORD - 2]}
  [[ $cur != = ]] || cur=
  case $option in
${join(values)}
  esac
  case $command in
${join(cases)}
    *) words='${[...names, ...long()].join(' ')}' ;;
  esac
  [[ $command != completion || $cur == -* ]] || words='${SHELLS.join(' ')}'
  if [[ $command == run && $cur != -* ]]; then _reconcile_lock_files
  else _reconcile_lock_words "$words"
  fi
}
complete -F _reconcile_lock reconcile-lock`
}

function zsh(): string {
  const specs = (command?: CommandName) =>
    optionsAt(command).map(([name, option]) => {
      const { value, completes, help } = option
      const offer = completes === 'file' ? '_files' : completes ? `(${wordsOf(option)})` : ''
      const [first = '', ...more] = offered([name, option])
      const head =
        more.length > 0 ? `'(${[first, ...more].join(' ')})'{${[first, ...more].join(',')}}` : first
      return `${head}'[${brief(help).replaceAll(']', '\\]')}]${value === undefined ? '' : `:${value}:${offer}`}'`
    })
  const cases = names.map((name) => `    ${name}) options=(${specs(name).join(' ')}) ;;`)
  return `#compdef reconcile-lock
_reconcile-lock() {
  local -i end=\${words[(i)--]}
  if ((end < CURRENT)); then
    shift $end words
    ((CURRENT -= end))
    _normal
    return
  fi
  local -a commands options operands
  commands=(${Object.entries(commands)
    .map(([name, text]) => `'${name}:${brief(text)}'`)
    .join(' ')})
  local command=\${words[(r)${names.join('|')}]}
  case $command in
${join(cases)}
    *) options=(${specs().join(' ')}) ;;
  esac
  case $command in
    run) operands=('(-)2:lock file:_files' '*:argument:_files') ;;
    completion) operands=('2:shell:(${SHELLS.join(' ')})') ;;
  esac
  _arguments -s $options '1:command:{_describe command commands}' $operands
}
if [[ $funcstack[1] == _reconcile-lock ]]; then _reconcile-lock "$@"
else compdef _reconcile-lock reconcile-lock
fi`
}

function fish(): string {
  const unless = `not __fish_seen_subcommand_from ${names.join(' ')}`
  const line = (condition: string, rest: string) => `complete -c reconcile-lock -n '${condition}' ${rest}`
  const optionLines = [undefined, ...names].flatMap((command) =>
    optionsAt(command).map(([name, option]) => {
      const words = offered([name, option]).map((each) =>
        each.replace(/^--/, '-l ').replace(/^-(?=\w$)/, '-s '),
      )
      const file = option.completes === 'file' ? '-r -F' : `-x -a '${wordsOf(option)}'`
      const kind = option.value === undefined ? '' : `${file} `
      const condition = command === undefined ? unless : `__fish_seen_subcommand_from ${command}`
      return line(condition, `${words.join(' ')} ${kind}-d '${brief(option.help)}'`)
    }),
  )
  return `# fish completion of reconcile-lock
function __reconcile_lock_inner
  set -l words (commandline -opc)
  set -l end (contains -i -- -- $words)
  set -l inner (string escape -- $words[(math $end + 1)..]) (commandline -ct)
  complete -C (string join ' ' -- $inner)
end
complete -c reconcile-lock -f
${join(Object.entries(commands).map(([name, text]) => line(unless, `-a ${name} -d '${brief(text)}'`)))}
${line('__fish_seen_subcommand_from completion', `-a '${SHELLS.join(' ')}'`)}
${line('__fish_seen_subcommand_from run; and not contains -- -- (commandline -opc)', '-F')}
${line('contains -- -- (commandline -opc)', "-a '(__reconcile_lock_inner)'")}
${join(optionLines)}`
}
