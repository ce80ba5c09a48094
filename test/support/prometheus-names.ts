/** What a PromQL expression refers to. Not a parser of the language: it tells names apart by what stands around them, and refuses what it does not know. */

/** Metrics with the labels that are asked of them, and the labels that are grouped by. */
export interface ExpressionNames { metrics: string[], matchers: Array<{ metric: string, label: string, value: string, isExact: boolean }>, groupLabels: string[] }

const FUNCTIONS = new Set(['sum', 'max', 'min', 'rate', 'increase', 'changes', 'label_values'])
const OPERATORS = new Set(['and', 'or', 'unless'])

/** @throws Error for brackets that do not match and for words that are neither metrics nor known */
export function expressionNames (expression: string): ExpressionNames {
  assertBalanced(expression)
  const names: ExpressionNames = { metrics: [], matchers: [], groupLabels: [] }
  const withoutMatchers = expression.replaceAll(/(\w+)\{([^}]*)\}/g, (_, metric: string, inner: string) => {
    for (const part of inner.split(/,\s*/)) {
      const [, label, operator, value] = /^(\w+)(=~|!=|!~|=)"([^"]*)"$/.exec(part) ?? []
      if (label === undefined || value === undefined) throw new Error(`${expression}: {${inner}} is not understood`)
      names.matchers.push({ metric, label, value, isExact: operator === '=' || operator === '!=' })
    }
    return metric
  })
  const withoutGroups = withoutMatchers.replaceAll(/\b(?:by|without)\s*\(([^)]*)\)/g, (_, inner: string) => {
    names.groupLabels.push(...inner.split(',').map((label) => label.trim()))
    return ''
  })
  const plain = withoutGroups.replaceAll(/\[\d+[smhd]\]/g, '')
  for (const { 0: word, index } of plain.matchAll(/[A-Za-z_]\w*/g)) {
    const isCall = /^\s*\(/.test(plain.slice(index + word.length))
    if (isCall ? FUNCTIONS.has(word) : OPERATORS.has(word)) continue
    if (isCall) throw new Error(`${expression}: ${word}() is not known`)
    names.metrics.push(word)
  }
  if (names.metrics.length === 0) throw new Error(`${expression}: names no metric`)
  return names
}

function assertBalanced (expression: string): void {
  const open: string[] = []
  for (const character of expression.replaceAll(/"[^"]*"/g, '""')) {
    if ('([{'.includes(character)) open.push(character)
    else if (')]}'.includes(character) && open.pop() !== '([{'[')]}'.indexOf(character)]) throw new Error(`${expression}: brackets do not match`)
  }
  if (open.length > 0) throw new Error(`${expression}: brackets do not match`)
}
