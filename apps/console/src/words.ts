/** Chinese and English of every word on the pages. */
import { computed, ref } from 'vue'

const WORDS = {
  title: ['桥 · 集成控制台', 'Qiao · integration console'],
  messages: ['报文', 'Messages'],
  work: ['待办', 'Work'],
  playground: ['试验台', 'Playground'],
  channel: ['通道', 'Channel'],
  event: ['类型', 'Type'],
  state: ['状态', 'State'],
  controlId: ['控制号', 'Control id'],
  patient: ['患者标识', 'Patient identifier'],
  patientHint: ['病案号或身份证号', 'record number or identity card'],
  time: ['时间', 'Time'],
  from: ['从', 'From'],
  to: ['至', 'To'],
  search: ['查询', 'Search'],
  clear: ['清空', 'Clear'],
  more: ['更多', 'More'],
  received: ['接收时间', 'Received'],
  orderKey: ['顺序键', 'Order key'],
  sender: ['发送方', 'Sender'],
  size: ['字节', 'Bytes'],
  lens: ['对照', 'Side by side'],
  raw: ['原文', 'Raw'],
  tree: ['解析树', 'Parsed tree'],
  fhir: ['FHIR', 'FHIR'],
  trace: ['追踪', 'Trace'],
  sent: ['外发', 'Sent'],
  ack: ['应答', 'ACK'],
  source: ['来源字段', 'Source field'],
  target: ['目标元素', 'Target element'],
  row: ['映射行', 'Map row'],
  rows: ['映射行', 'Map rows'],
  value: ['值', 'Value'],
  chooseHint: [
    '点击左侧字段，看它变成了什么；点击右侧元素，看它从哪里来。',
    'Click a field to see what it became, or an element to see where it came from.',
  ],
  becameNothing: ['没有映射行读取此字段', 'No row reads this field'],
  fromConstant: ['由常量或整条报文得出', 'From a constant or the whole message'],
  issues: ['问题', 'Issues'],
  moves: ['人工操作', 'Moves by hand'],
  behind: ['排在其后的报文', 'Waiting behind'],
  waitsFor: ['等待条目', 'Waits for entry'],
  parked: ['停放的患者', 'Parked keys'],
  held: ['未识别代码', 'Held codes'],
  otherHeld: ['其他暂存', 'Held for other reasons'],
  unmapped: ['无映射的事件', 'Events without a map'],
  resolved: ['已确认的代码', 'Resolved codes'],
  table: ['代码表', 'Table'],
  code: ['对方代码', "Sender's code"],
  meaning: ['含义', 'Meaning'],
  choose: ['请选择', 'Choose'],
  rehearse: ['试运行', 'Dry run'],
  rehearsal: ['试运行结果（未写入）', 'Dry run (nothing was written)'],
  replay: ['重放', 'Replay'],
  replayAll: ['按顺序全部重放', 'Replay all in order'],
  skip: ['跳过', 'Skip'],
  resolve: ['确认并重放', 'Resolve and replay'],
  reason: ['原因', 'Reason'],
  reasonNeeded: ['请写明原因', 'Say why'],
  was: ['原值', 'Was'],
  becomes: ['新值', 'Becomes'],
  created: ['新建', 'new'],
  noChange: ['不会改变任何记录', 'It would change no record'],
  stillStuck: ['仍然不能处理', 'It would still be stuck'],
  wouldWork: ['可以处理', 'It would work'],
  waiting: ['等待', 'Waiting'],
  message: ['报文', 'Message'],
  since: ['自', 'Since'],
  nothingToDo: ['没有待办', 'Nothing to do'],
  sample: ['示例', 'Sample'],
  editMap: ['修改映射（仅试用，不保存）', 'Change a map (tried here only)'],
  mapFile: ['映射文件', 'Map file'],
  restore: ['还原', 'Restore'],
  saveCase: ['存为用例', 'Save as case'],
  caseName: ['用例名称', 'Name of the case'],
  caseWhy: ['它证明什么', 'What it shows'],
  save: ['保存', 'Save'],
  cancel: ['取消', 'Cancel'],
  saved: ['已保存', 'Saved'],
  faults: ['映射有误，未装入', 'The map has faults and is not loaded'],
  token: ['访问令牌', 'Access token'],
  signIn: ['登录', 'Sign in'],
  signOut: ['退出', 'Sign out'],
  enter: ['进入', 'Enter'],
  tokenHint: [
    '请粘贴机构登录服务签发的访问令牌（Bearer）。查看报文需要 system/*.rs，处理待办需要 system/*.u。',
    'Paste an access token (bearer) of your sign-in service. Reading messages needs system/*.rs, moving them system/*.u.',
  ],
  tokenKept: ['令牌只保存到关闭本标签页为止。', 'The token is kept until this tab is closed.'],
  tokenRefused: ['此令牌未被接受', 'This token was not accepted'],
  back: ['返回', 'Back'],
  nothingSent: ['没有外发', 'Nothing was owed to a partner for it'],
  noResource: ['没有写入资源', 'It wrote no resource'],
  opened: ['已重新打开', 'Opened again'],
  payload: ['内容', 'Payload'],
  receipt: ['回执', 'Receipt'],
  notCurrent: ['由较早版本的映射写入', 'Written by an earlier version of the maps'],
  kind: ['性质', 'Class'],
  loading: ['正在读取…', 'Loading…'],
  again: ['重试', 'Try again'],
  away: ['集成平台没有应答', 'The hub does not answer'],
  awayAdvice: [
    '请确认平台正在运行（qiao doctor），然后重试；平台停止期间收到应答的报文不会丢失。',
    'See that it runs (qiao doctor), then try again; messages that were acknowledged are kept meanwhile.',
  ],
  noMessage: ['还没有收到报文：qiao demo 会发送一条。', 'No message has come in yet: qiao demo sends one.'],
  noMatch: ['没有符合条件的报文，请清空或放宽条件。', 'No message is like that: clear or widen the filter.'],
  dryRunFirst: ['先试运行，看清变化，再确认或重放', 'Dry-run first and look at the changes; then resolve or replay'],
} as const

export type Word = keyof typeof WORDS

const STATES: Record<string, readonly [string, string]> = {
  received: ['已接收', 'received'],
  claimed: ['处理中', 'in work'],
  translated: ['已转换', 'translated'],
  unmapped: ['无映射', 'unmapped'],
  held: ['暂存', 'held'],
  parked: ['停放', 'parked'],
  skipped: ['已跳过', 'skipped'],
  waiting: ['等待发送', 'waiting'],
  inflight: ['发送中', 'in flight'],
  accepted: ['已接受', 'accepted'],
  deferred: ['稍后重试', 'deferred'],
  refused: ['被拒绝', 'refused'],
  unknown: ['结果不明', 'unknown'],
  settled: ['已核定', 'settled'],
  superseded: ['已被取代', 'superseded'],
  withdrawn: ['已撤回', 'withdrawn'],
}

const KINDS: Record<string, readonly [string, string]> = {
  exact: ['可逆', 'exact'],
  lossy: ['有损', 'lossy'],
  forward: ['单向', 'forward'],
  backward: ['仅回写', 'backward'],
  ignored: ['不读取', 'ignored'],
}

const KEPT = 'qiao.language'
const isChinese = (localStorage.getItem(KEPT) ?? navigator.language).startsWith('zh')
export const language = ref<'zh' | 'en'>(isChinese ? 'zh' : 'en')
const place = computed(() => (language.value === 'zh' ? 0 : 1))

export function say(word: Word): string {
  return WORDS[word][place.value]
}

export function sayState(state: string): string {
  return STATES[state]?.[place.value] ?? state
}

export function sayKind(kind: string): string {
  return KINDS[kind]?.[place.value] ?? kind
}

/** The half of a text of the hub (`English / 中文`) that the reader reads. */
export function ours(text: string): string {
  const middle = text.lastIndexOf(' / ')
  if (middle < 0 || !/[\u4e00-\u9fff]/.test(text.slice(middle))) return text
  return language.value === 'zh' ? text.slice(middle + 3) : text.slice(0, middle)
}

export function speak(chosen: 'zh' | 'en'): void {
  language.value = chosen
  localStorage.setItem(KEPT, chosen)
  document.documentElement.lang = chosen === 'zh' ? 'zh-CN' : 'en'
}

export function when(time: string | null | undefined): string {
  if (!time) return '–'
  const at = new Date(time)
  const two = (number: number) => String(number).padStart(2, '0')
  return (
    `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ` +
    `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
  )
}
