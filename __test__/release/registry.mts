// A local npm registry that serves only the release under test.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { basename, join } from 'node:path'
import { manifest, type Release, tarballOf } from '../support/release.mjs'

export interface Registry {
  url: string
  /** The tarballs that were requested since the last call. */
  fetched(): string[]
  /** The packages that were published since the last call, in this order. */
  published(): string[]
  close(): void
}

/** The metadata of each package, by its name. */
function packuments({ home, packed }: Release, url: string): Map<string, unknown> {
  const homes = [home, ...readdirSync(join(home, 'npm')).map((name) => join(home, 'npm', name))]
  return new Map(
    homes.map((each) => {
      const described = JSON.parse(readFileSync(join(each, 'package.json'), 'utf8'))
      const { name, version } = described
      const file = tarballOf(name, version)
      const integrity = `sha512-${createHash('sha512')
        .update(readFileSync(join(packed, file)))
        .digest('base64')}`
      const hasInstallScript = described.scripts?.install !== undefined
      const published = { ...described, hasInstallScript, dist: { tarball: `${url}/-/${file}`, integrity } }
      return [name, { name, 'dist-tags': { latest: version }, versions: { [version]: published } }]
    }),
  )
}

/** @param isEmpty whether nothing is published yet */
export async function serve(release: Release, isEmpty = false): Promise<Registry> {
  let known = new Map<string, unknown>()
  let fetched: string[] = []
  let put: string[] = []
  const server = createServer((request, response) => {
    if (request.method === 'PUT') {
      let body = ''
      request.setEncoding('utf8').on('data', (text) => {
        body += text
      })
      request.on('end', () => {
        const { name, versions, 'dist-tags': tags } = JSON.parse(body)
        known.set(name, { name, versions, 'dist-tags': tags })
        put.push(name)
        response.writeHead(201).end('{}')
      })
      return
    }
    const path = decodeURIComponent(request.url ?? '').slice(1)
    if (path.startsWith('-/')) {
      const name = basename(path)
      fetched.push(name)
      response.end(readFileSync(join(release.packed, name)))
    } else if (known.has(path)) response.end(JSON.stringify(known.get(path)))
    else response.writeHead(404).end('{}')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  if (!isEmpty) {
    known = packuments(release, url)
    assert.ok(known.has(manifest.name))
  }
  return {
    url,
    fetched() {
      const seen = fetched.sort()
      fetched = []
      return seen
    },
    published() {
      const seen = put
      put = []
      return seen
    },
    close: () => server.close(),
  }
}

export interface End {
  code: number
  stdout: string
  stderr: string
}

/** Runs npm in a project with this registry and a separate cache. */
export function npm(
  registry: Registry,
  cwd: string,
  args: string[],
  env: NodeJS.ProcessEnv = {},
): Promise<End> {
  const settings = ['--registry', registry.url, '--cache', join(cwd, '.npm-cache'), '--no-audit', '--no-fund']
  return new Promise((resolve) => {
    execFile(
      'npm',
      [...args, ...settings],
      { cwd, encoding: 'utf8', env: { ...process.env, ...env }, shell: process.platform === 'win32' },
      (error, stdout, stderr) =>
        resolve({ code: error ? (typeof error.code === 'number' ? error.code : -1) : 0, stdout, stderr }),
    )
  })
}
