// What a runtime wrote down about its tests.
import { XMLParser } from 'fast-xml-parser'

const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: '',
  parseAttributeValue: false,
  parseTagValue: false,
  htmlEntities: true,
  isArray: (name) => name === 'testcase' || name === 'testsuite',
})

/**
 * @typedef {{ name: string, state: 'passed' | 'failed' | 'skipped', about: string }} Result `about`: why not passed
 */

/**
 * The tests in a JUnit report, those inside of suites too.
 * @param {string} xml
 * @returns {Result[]}
 */
export function readReport(xml) {
  const found = []
  const visit = (node) => {
    for (const testcase of node.testcase ?? []) found.push(resultOf(testcase))
    for (const suite of node.testsuite ?? []) visit(suite)
  }
  visit(parser.parse(xml).testsuites ?? {})
  return found
}

function resultOf({ name, failure, error, skipped }) {
  const failed = failure ?? error
  if (failed !== undefined) return { name, state: 'failed', about: textOf(failed) }
  if (skipped !== undefined) return { name, state: 'skipped', about: textOf(skipped) }
  return { name, state: 'passed', about: '' }
}

const textOf = (element) => element['#text'] ?? element.message ?? String(element)
