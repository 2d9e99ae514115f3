/** The console's own small API; docs/reference/console.md. */

export interface Issue {
  severity: string
  details: { text: string; coding?: { code: string }[] }
  diagnostics?: string
  expression?: string[]
}

export interface MessageRow {
  id: number
  channel: string
  sender: string
  facility: string
  control_id: string
  event: string
  order_key: string
  state: string
  waits_for: number | null
  attempts: number
  received_at: string
  finished_at: string | null
  trace_id: string
  bytes: number
  issues: Issue[] | null
}

export interface Part {
  place: string
  text: string
  parts: Part[]
}
export interface Field extends Part {
  number: number
  raw: string
}
export interface Segment {
  name: string
  place: string
  fields: Field[]
}

export type TraceEntry = [target: string, source: string, row: string]
export interface Traced {
  reference: string
  resource: Record<string, unknown> | null
  trace: TraceEntry[]
}
export interface RowInWords {
  map: string
  row: string
  file: string
  line: number
  kind: string
  text: string
  text_zh: string
}
export interface Sent {
  id: number
  destination: string
  state: string
  attempts: number
  created_at: string
  sent_at: string | null
  code: string
  detail: string
  reference: string
  payload: string
  receipt: string
  source_type: string
  source_id: string
}
export interface WholeMessage extends MessageRow {
  raw: string
  ack: string
  tree: Segment[]
  map: string
  map_hash: string
  is_current_map: boolean
  resources: Traced[]
  rows: Record<string, RowInWords[]>
  sent: Sent[]
  behind: { id: number; control_id: string; event: string; received_at: string }[]
  moves: { at: string; action: string; actor: string; reason: string }[]
}

export interface HeldCode {
  channel: string
  table: string
  code: string
  row: string
  source: string
  targets: { code: string; display: string }[]
  messages: { id: number; control_id: string; event: string; received_at: string }[]
}
export interface Stuck extends MessageRow {
  waiting: number
}
export interface Queues {
  parked: Stuck[]
  held: Stuck[]
  unmapped: Stuck[]
  codes: HeldCode[]
  resolved: {
    channel: string
    table: string
    code: string
    target: string
    actor: string
    reason: string
    at: string
  }[]
}

export interface Rehearsed {
  outcome: string
  issues: Issue[]
  changes: {
    reference: string
    is_new: boolean
    differences: { path: string; was: string | null; becomes: string | null; row: string }[]
  }[]
}

export interface Fault {
  file: string
  line: number
  row: string
  text: string
  fix: string
}
export interface Tried {
  map: string
  resources: Traced[]
  rows: Record<string, RowInWords[]>
  issues: Issue[]
  faults: Fault[]
  held: { table: string; code: string; source: string; row: string }[]
  unmapped: string
  tree: Segment[]
}

export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly issues: Issue[],
  ) {
    super(issues.map((issue) => issue.details.text).join('; ') || `HTTP ${status}`)
  }
}

/** Nothing answered: the hub is stopped, or the network between is. */
export class Away extends Error {}

const KEPT = 'qiao.token'

export function keepToken(token: string): void {
  sessionStorage.setItem(KEPT, token)
}

export function hasToken(): boolean {
  return sessionStorage.getItem(KEPT) !== null
}

export function forgetToken(): void {
  sessionStorage.removeItem(KEPT)
}

async function sent(path: string, request: RequestInit): Promise<{ answer: Response; text: string }> {
  try {
    const answer = await fetch(path, request)
    return { answer, text: await answer.text() }
  } catch (failure) {
    throw new Away(String(failure))
  }
}

async function ask<T>(path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = {}
  const token = sessionStorage.getItem(KEPT)
  if (token) headers.authorization = `Bearer ${token}`
  if (body !== undefined) headers['content-type'] = 'application/json'
  const { answer, text } = await sent(`/console/api${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
  })
  if (!answer.ok) {
    let issues: Issue[] = []
    try {
      issues = (JSON.parse(text) as { issue?: Issue[] }).issue ?? []
    } catch {
      // not an OperationOutcome: the status says it
    }
    throw new Refused(answer.status, issues)
  }
  return JSON.parse(text) as T
}

const query = (values: Record<string, string | number | null | undefined>): string => {
  const given = Object.entries(values).filter(([, value]) => value)
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()
}

export type Filters = Record<string, string | number | null | undefined>
export type Codes = Record<string, Record<string, string>>

export const api = {
  find: (filters: Filters) =>
    ask<{ messages: MessageRow[]; next: number | null }>(`/messages?${query(filters)}`),
  kinds: () => ask<{ channels: string[]; events: string[]; states: string[] }>('/kinds'),
  show: (id: number) => ask<WholeMessage>(`/messages/${id}`),
  queues: () => ask<Queues>('/queues'),
  rehearse: (id: number, codes: Codes) => ask<Rehearsed>(`/messages/${id}/rehearse`, { codes }),
  replay: (ids: number[], reason: string) => ask<{ opened: number }>('/replay', { ids, reason }),
  skip: (id: number, reason: string) => ask(`/messages/${id}/skip`, { reason }),
  resolve: (given: {
    channel: string
    table: string
    code: string
    target: string
    reason: string
  }) => ask<{ opened: number }>('/codes', given),
  tryOut: (message: string, channel: string, maps: Record<string, string>) =>
    ask<Tried>('/try', { message, channel, maps }),
  mapFiles: () => ask<{ files: string[] }>('/maps'),
  mapFile: (name: string) => ask<{ name: string; text: string }>(`/maps/${name}`),
  samples: () => ask<{ samples: { name: string; message: string }[] }>('/samples'),
  saveCase: (given: { name: string; message: string; why: string; channel: string }) =>
    ask<{ folder: string; next: string }>('/cases', given),
}
