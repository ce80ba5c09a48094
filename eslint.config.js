import neostandard from 'neostandard'
import tseslint from 'typescript-eslint'

const NO_TIMERS = ['setTimeout', 'setInterval'].map((name) => ({ name, message: 'time comes from Clock (base/time.ts)' }))

export default tseslint.config(
  { ignores: ['dist/', 'node_modules/', 'coverage/', '**/*.cjs'] },
  ...neostandard({ ts: true, noJsx: true }),
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/only-throw-error': 'error',
      '@typescript-eslint/return-await': ['error', 'in-try-catch'],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-redundant-type-constituents': 'off',
      'no-void': 'off'
    }
  },
  {
    files: ['src/**/*.ts'],
    ignores: ['src/base/time.ts'],
    rules: {
      'no-restricted-globals': ['error', ...NO_TIMERS],
      'no-restricted-syntax': ['error',
        { selector: "ThrowStatement > NewExpression[callee.name='Error']", message: 'throw CarrierError with a code' },
        { selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']", message: 'time comes from Clock (base/time.ts)' },
        { selector: "MemberExpression[object.name='process'][property.name='env']", message: 'the environment is read in bin/ only' }
      ]
    }
  },
  {
    files: ['test/unit/**/*.ts'],
    rules: { 'no-restricted-globals': ['error', ...NO_TIMERS] }
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // node:test gives promises from test() and describe() that the runner itself awaits
      '@typescript-eslint/no-floating-promises': ['error', { allowForKnownSafeCalls: [{ from: 'package', package: 'node:test', name: ['test', 'it', 'describe', 'suite', 'before', 'after', 'beforeEach', 'afterEach'] }] }]
    }
  }
)
