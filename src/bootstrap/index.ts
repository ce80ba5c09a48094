/** Bootstrap and relay daemon: circuit relay v2 hop server, private DHT server, health, configuration. */
export * from './admission.ts'
export * from './config.ts'
export * from './daemon.ts'
