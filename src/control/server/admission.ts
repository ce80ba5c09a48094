/** Who may talk to the control API: the holder of the token, and no browser. Pure; decided before anything is parsed. */
import type { IncomingHttpHeaders } from 'node:http'
import type { ErrorCode } from '../../base/index.ts'
import { equalSecrets, utf8Encode } from '../../base/index.ts'

/** What is decided about a request; `reason` is the label of the metric. */
export type ControlVerdict = { allow: true } | { allow: false, code: ErrorCode, reason: 'browser' | 'host' | 'token', message: string }

/** Names under which a local client may address the daemon; a browser that was led here by DNS sends another. */
const HOSTS = new Set(['carrier', 'localhost'])

/** Headers that only browsers send. */
const BROWSER_HEADERS = ['origin', 'referer', 'sec-fetch-site', 'sec-fetch-mode'] as const

/** Decides from the headers alone. */
export function admitRequest (headers: IncomingHttpHeaders, token: string): ControlVerdict {
  const browserHeader = BROWSER_HEADERS.find((name) => headers[name] !== undefined)
  if (browserHeader !== undefined) {
    return { allow: false, code: 'ERR_UNAUTHORIZED', reason: 'browser', message: `requests with the header "${browserHeader}" are refused: the control API is not for browsers` }
  }
  if (headers.host === undefined || !HOSTS.has(headers.host.toLowerCase())) {
    return { allow: false, code: 'ERR_UNAUTHORIZED', reason: 'host', message: 'the header "Host" must be "carrier" or "localhost"' }
  }
  const given = /^Bearer ([\x21-\x7e]{1,256})$/.exec(headers.authorization ?? '')?.[1]
  if (given === undefined || !equalSecrets(utf8Encode(given), utf8Encode(token))) {
    return { allow: false, code: 'ERR_UNAUTHORIZED', reason: 'token', message: 'send "Authorization: Bearer TOKEN" with the content of control.token in the data directory' }
  }
  return { allow: true }
}
