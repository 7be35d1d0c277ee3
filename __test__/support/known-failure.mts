import type { TestContext } from 'node:test'

type Environment =
  | { runtime: 'bun' | 'deno'; platform?: never }
  | { platform: 'musl' | 'qemu' | 'wine'; runtime?: never }

export type KnownFailure = Environment & {
  why: string
  /** The result depends on timing, so a pass is not an error. */
  sometimes?: true
  /** It would make later tests or its own hooks fail, so it does not run. */
  isHarmful?: true
}

type Body = (t: TestContext) => void | Promise<void>

/** The platforms that `npm run cross` names, and the runtime. */
const environments = new Set(process.env.RECONCILE_TEST_PLATFORM?.split(' '))
if (process.versions.bun) environments.add('bun')
if (process.versions.deno) environments.add('deno')

/** The time in milliseconds after which a marked test counts as hanging. */
const DEADLINE = environments.has('qemu') ? 60_000 : 6000

/**
 * Marks a test that cannot pass in a runtime or on a platform. Unless it does harm there, it still runs: its failure
 * counts as skipped, and its success is an error, so that no mark outlives its reason. Elsewhere the mark does nothing.
 */
export function knownFailure(marks: KnownFailure | KnownFailure[], body: Body): Body {
  const mark = [marks].flat().find(({ runtime, platform }) => environments.has(runtime ?? platform ?? ''))
  if (mark === undefined) return body
  return async (t) => {
    const error = mark.isHarmful ? 'it did not run' : await failureOf(body, t)
    if (error === undefined && mark.sometimes) return
    if (error === undefined)
      throw new Error(`the test passes in ${mark.runtime ?? mark.platform}: remove its knownFailure()`)
    // Deno counts a skipped test as passed, so the runner reads this line.
    console.log(`\nknown failure: ${t.name}: ${mark.why}`)
    t.skip(mark.why)
  }
}

async function failureOf(body: Body, t: TestContext): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it takes longer than ${DEADLINE} ms`)), DEADLINE)
  })
  try {
    await Promise.race([body(t), late])
    return undefined
  } catch (error) {
    return error ?? new Error('it throws nothing')
  } finally {
    clearTimeout(timer)
  }
}
