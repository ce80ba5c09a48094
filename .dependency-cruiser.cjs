/** The DAG of ARCHITECTURE.md: arrows point down only, one door per folder, the thin client stays thin. */
const layer = (name, lower) => ({
  name: `layer-${name}`,
  comment: `src/${name} may use only: ${lower.join(', ') || 'nothing of ours'}`,
  severity: 'error',
  from: { path: `^src/${name}/` },
  to: { path: '^src/', pathNot: [`^src/${name}/`, ...lower.map((folder) => `^src/${folder}/`)] }
})

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, dependencyTypesNot: ['type-only'] } },
    { name: 'no-unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
    { name: 'one-door', comment: 'other folders are entered through their index.ts',
      severity: 'error',
      from: { path: '^src/([^/]+)/' },
      to: { path: '^src/([^/]+)/.+', pathNot: ['^src/$1/', '^src/[^/]+/index[.]ts$', '^src/control/(client|server)/index[.]ts$', '^src/base/[^/]+[.]ts$'] } },
    { name: 'one-door-for-bins', severity: 'error',
      from: { path: '^bin/' },
      to: { path: '^src/([^/]+)/.+', pathNot: ['^src/[^/]+/index[.]ts$', '^src/control/(client|server)/index[.]ts$', '^src/base/[^/]+[.]ts$'] } },
    layer('base', []),
    layer('identity', ['base']),
    layer('audit', ['base', 'identity']),
    layer('node', ['base', 'identity', 'audit']),
    layer('friends', ['base', 'identity', 'audit', 'node']),
    layer('session', ['base', 'identity', 'audit', 'node']),
    layer('forwarding', ['base', 'identity', 'audit', 'node', 'friends', 'session']),
    layer('bootstrap', ['base', 'identity', 'node']),
    { name: 'control-client-is-thin', severity: 'error',
      from: { path: '^src/control/client/' },
      to: { path: '^src/', pathNot: ['^src/control/client/', '^src/base/'] } },
    { name: 'control-server-uses-the-facade', severity: 'error',
      from: { path: '^src/control/server/' },
      to: { path: '^src/', pathNot: ['^src/control/', '^src/base/', '^src/carrier-types[.]ts$', '^src/(friends|forwarding|identity|node|session|audit)/index[.]ts$'] } },
    { name: 'explain-uses-doors', severity: 'error',
      from: { path: '^src/explain/' },
      to: { path: '^src/', pathNot: ['^src/explain/', '^src/base/', '^src/carrier-types[.]ts$', '^src/(identity|audit|node|friends|session|forwarding)/index[.]ts$'] } },
    { name: 'facade-is-on-top', comment: 'only index.ts, explain/ and the control server know the facade', severity: 'error',
      from: { path: '^src/(base|identity|audit|node|friends|session|forwarding|bootstrap)/' },
      to: { path: '^src/(carrier|carrier-types|index)[.]ts$|^src/explain/' } },
    { name: 'no-tests-in-src', severity: 'error', from: { path: '^(src|bin)/' }, to: { path: '^test/' } },
    { name: 'no-dev-dependencies', severity: 'error', from: { path: '^(src|bin)/' }, to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'] } }
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['carrier-source', 'import', 'node', 'default', 'types'], extensions: ['.ts', '.js', '.cjs', '.mjs', '.json'] }
  }
}
