// How a runtime is told to run one file of tests and to write down what became of each, in JUnit's format.

/**
 * @param {string} kind
 * @param {string} file of tests, relative to the project's directory
 * @param {string} report where to write
 * @returns {string[]} the words after the executable
 */
export function testArguments(kind, file, report) {
  switch (kind) {
    case 'node':
      return ['--test-reporter=junit', `--test-reporter-destination=${report}`, file]
    case 'bun':
      // Bun's own limit of five seconds is shorter than some tests take; that of the file is ten minutes.
      return ['test', '--timeout=580000', '--reporter=junit', `--reporter-outfile=${report}`, `./${file}`]
    case 'deno':
      return ['test', '--allow-all', '--no-check', `--junit-path=${report}`, file]
    default:
      throw new Error(`no runtime is called ${kind}`)
  }
}
