/** What was refused, said to the person; a missing or refused token is asked for. */
import { ElNotification } from 'element-plus'
import { ref } from 'vue'
import { Away, Refused } from './api'
import { ours, say } from './words'

export const needsToken = ref(false)
export const whyRefused = ref<string[]>([])

/** Asks for a token where that is what is missing. */
export function wantsToken(failure: unknown): boolean {
  if (!(failure instanceof Refused) || failure.status !== 401) return false
  const issue = failure.issues[0]
  whyRefused.value = [issue?.details.text ?? '', issue?.diagnostics ?? ''].filter(Boolean)
  needsToken.value = true
  return true
}

/** What failed, and what to do about it, in the reader's language. */
export function wordsOf(failure: unknown): { title: string; advice: string } {
  if (failure instanceof Away) return { title: say('away'), advice: say('awayAdvice') }
  const issue = failure instanceof Refused ? failure.issues[0] : undefined
  if (issue) return { title: ours(issue.details.text), advice: ours(issue.diagnostics ?? '') }
  const isAway = failure instanceof Refused && failure.status >= 500
  return { title: String(failure), advice: isAway ? say('awayAdvice') : '' }
}

export function tell(failure: unknown): void {
  if (wantsToken(failure)) return
  const { title, advice } = wordsOf(failure)
  ElNotification({ type: 'error', title, message: advice, duration: 8000 })
}
