/** Which sources, rows and targets belong to what somebody clicked. */
import type { Traced } from './api'

export type Chosen =
  | { kind: 'source'; place: string }
  | { kind: 'target'; reference: string; path: string }
  | { kind: 'row'; row: string }
  | null

export interface Link {
  reference: string
  target: string
  source: string
  row: string
}

export function linksOf(resources: Traced[]): Link[] {
  return resources.flatMap((one) =>
    one.trace.map(([target, source, row]) => ({
      reference: one.reference,
      target: placeIn(one.resource, target.slice(target.indexOf('.') + 1)),
      source,
      row,
    })),
  )
}

const CORE = 'http://hl7.org/fhir/StructureDefinition/'

/** The path by numbers of one that names extensions by their address: `extension(x)` as `extension[0]`. */
export function placeIn(resource: unknown, path: string): string {
  let here: unknown = resource
  const steps: string[] = []
  for (const [step, name, url, number] of path.matchAll(/([^.[(]+)(?:\(([^)]*)\))?(?:\[(\d+)\])?/g)) {
    const items = (here as Record<string, unknown> | null | undefined)?.[name ?? '']
    if (url === undefined) {
      steps.push(step)
      here = number === undefined || !Array.isArray(items) ? items : items[Number(number)]
      continue
    }
    const at = Array.isArray(items)
      ? items.findIndex((item) => item?.url === url || item?.url === CORE + url)
      : -1
    steps.push(at < 0 ? step : `${name}[${at}]`)
    here = at < 0 ? undefined : (items as unknown[])[at]
  }
  return steps.join('.')
}

/** Whether `whole` is the place itself or one around it: PID[1]-5 is around PID[1]-5[1].2. */
export function isWithin(place: string, whole: string): boolean {
  return (
    place === whole || (place.startsWith(whole) && '.[-'.includes(place.charAt(whole.length)))
  )
}

export function chosenLinks(links: Link[], chosen: Chosen): Link[] {
  if (chosen === null) return []
  if (chosen.kind === 'row') return links.filter((link) => link.row === chosen.row)
  if (chosen.kind === 'target') {
    const own = links.filter((link) => link.reference === chosen.reference)
    // The row that writes an extension says its address.
    const path = chosen.path.replace(/(xtension\[\d+\])\.url$/, '$1')
    const below = own.filter((link) => isWithin(link.target, path))
    return below.length ? below : own.filter((link) => isWithin(path, link.target))
  }
  const below = links.filter((link) => isWithin(link.source, chosen.place))
  if (below.length) return below
  // A component without a row of its own is read with its whole field.
  return links.filter(
    (link) => link.source.includes('-') && isWithin(chosen.place, link.source),
  )
}

export interface Line {
  depth: number
  name: string
  text: string
  path: string
  isLeaf: boolean
}

/** A resource as lines, each with its path. */
export function linesOf(resource: Record<string, unknown>): Line[] {
  const lines: Line[] = []
  const walk = (value: unknown, name: string, path: string, depth: number): void => {
    if (Array.isArray(value)) {
      value.forEach((item, number) => walk(item, `${name}[${number}]`, `${path}[${number}]`, depth))
    } else if (value !== null && typeof value === 'object') {
      if (name) lines.push({ depth, name, text: '', path, isLeaf: false })
      for (const [key, item] of Object.entries(value)) {
        if (!path && (key === 'resourceType' || key === 'id' || key === 'meta')) continue
        walk(item, key, path ? `${path}.${key}` : key, name ? depth + 1 : depth)
      }
    } else {
      lines.push({ depth, name, text: String(value), path, isLeaf: true })
    }
  }
  walk(resource, '', '', 0)
  return lines
}
