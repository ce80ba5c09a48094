/** Tests that need root or Debian packages: skipped with the reason printed, or failing where CI asks for them. */

/**
 * Options for `describe`/`test`: runs when `reason` is undefined; else skips and says why, unless
 * CARRIER_TEST_REQUIRE (a comma-separated list) names `what`: then not running is a failure.
 */
export function requirement (what: 'lab' | 'postgres' | 'deploy', reason: string | undefined): { skip: string | false } {
  if (reason === undefined) return { skip: false }
  const sentence = `${what}: not run: ${reason}`
  const required = (process.env['CARRIER_TEST_REQUIRE'] ?? '').split(',').map((item) => item.trim())
  if (required.includes(what)) throw new Error(sentence)
  console.log(sentence)
  return { skip: sentence }
}
