import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseCommand } from '../src/cli/args.js'
import { UsageError } from '../src/errors.js'

test('parseCommand reads every command', () => {
  assert.deepEqual(parseCommand([]), { name: 'dry-run', dir: '.' })
  assert.deepEqual(parseCommand(['status', '--dir', 'd']), { name: 'status', dir: 'd' })
  assert.deepEqual(parseCommand(['ping']), { name: 'ping', dir: '.' })
  const lockUrl = 'postgres://h/d'
  for (const [words, name] of [
    [[], 'dry-run'],
    [['status'], 'status'],
  ] as const)
    assert.deepEqual(parseCommand([...words, '--lock-url', lockUrl]), { name, dir: '.', lockUrl })
  assert.deepEqual(parseCommand(['--execute', '--lock-url', lockUrl]), {
    name: 'execute',
    dir: '.',
    lockUrl,
    pauseMs: 0,
    resolutions: [],
  })
  assert.deepEqual(parseCommand(['--help', 'status']), { name: 'help' })
  assert.deepEqual(parseCommand(['--execute', '--pause-ms', '5', '--resolve', 'inv-1=retry']), {
    name: 'execute',
    dir: '.',
    pauseMs: 5,
    resolutions: [{ invoice: 'INV-1', as: 'retry' }],
  })
})

test('parseCommand refuses wrong arguments', () => {
  for (const line of [
    'stat',
    'status more',
    '--exec',
    '--dir',
    '--dir=',
    'status --execute',
    'ping --execute',
    'ping more',
    'ping --lock-url postgres://h/d',
    '--lock-url',
    '--lock-url=',
    '--lock-url keeper:secret@h/d',
    '--pause-ms 5',
    '--resolve A=retry',
    '--execute --pause-ms -1',
    '--execute --pause-ms 1.5',
    '--execute --pause-ms 2147483648',
    '--execute --resolve A',
    '--execute --resolve =retry',
    '--execute --resolve A=maybe',
    '--execute --resolve A=retry --resolve a=posted',
  ])
    assert.throws(() => parseCommand(line.split(' ')), UsageError, line)
})
