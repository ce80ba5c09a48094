#!/usr/bin/env node
import { existsSync } from 'node:fs'

const major = Number(process.versions.node.split('.')[0])
if (major < 24) {
  process.stderr.write(`carrier needs Node 24 or newer, this is ${process.version}; in a checkout run it as: npm exec -- carrier\n`)
  process.exitCode = 1
} else {
  // the published package brings dist/ only: Node does not strip types below node_modules
  const source = new URL('./carrier.ts', import.meta.url)
  const isCheckout = existsSync(source) && !source.pathname.includes('/node_modules/')
  const { main } = await import(isCheckout ? source.href : new URL('../dist/bin/carrier.js', import.meta.url).href)
  await main(process.argv.slice(2))
}
