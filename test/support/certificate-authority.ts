/** A private certificate authority for tests, and the certificates that it signs. */
import { KeyObject } from 'node:crypto'
import { isIP } from 'node:net'
import 'reflect-metadata'
import { BasicConstraintsExtension, KeyUsageFlags, KeyUsagesExtension, SubjectAlternativeNameExtension, X509CertificateGenerator } from '@peculiar/x509'

/** A certificate and its key, PEM. */
export interface TestCertificate { cert: string, key: string }

/** Signs certificates of servers. */
export interface TestAuthority {
  /** Its own certificate, PEM: what a client has to trust. */
  certificatePem: string
  /** A certificate for names and IP addresses. */
  issue: (hosts: readonly string[]) => Promise<TestCertificate>
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const DAY_MS = 86_400_000

/** Makes one. */
export async function createTestAuthority (): Promise<TestAuthority> {
  const name = 'CN=Carrier test authority'
  const span = { notBefore: new Date(Date.now() - DAY_MS), notAfter: new Date(Date.now() + DAY_MS) }
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const authority = await X509CertificateGenerator.createSelfSigned({
    ...span,
    name,
    keys,
    signingAlgorithm: ALGORITHM,
    extensions: [new BasicConstraintsExtension(true, undefined, true), new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true)]
  }, crypto)
  return {
    certificatePem: authority.toString('pem'),
    issue: async (hosts) => {
      const own = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
      const certificate = await X509CertificateGenerator.create({
        ...span,
        subject: 'CN=relay',
        issuer: name,
        publicKey: own.publicKey,
        signingKey: keys.privateKey,
        signingAlgorithm: ALGORITHM,
        extensions: [new SubjectAlternativeNameExtension(hosts.map((value) => ({ type: isIP(value) === 0 ? 'dns' as const : 'ip' as const, value })))]
      }, crypto)
      return { cert: certificate.toString('pem'), key: KeyObject.from(own.privateKey).export({ type: 'pkcs8', format: 'pem' }).toString() }
    }
  }
}
