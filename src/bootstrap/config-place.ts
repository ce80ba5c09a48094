/** The beginning of a sentence about a configuration: `FILE:LINE: `, or nothing where the place is not known (flags, environment). */
export function placePrefix (where: string | undefined): string {
  return where === undefined ? '' : `${where}: `
}
