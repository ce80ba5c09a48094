/** Audit: one durable record for every access and every refusal of a friend (invariant I6). */
export * from './audit-log.ts'
export type * from './types.ts'
