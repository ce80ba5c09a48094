/** What this release is. A test compares VERSION with package.json. */

/** Version of the package. */
export const VERSION = '0.1.0'

/** Epoch ms at which this release was made: a clock earlier than this is wrong. */
export const BUILD_DATE = Date.UTC(2026, 10, 20)
