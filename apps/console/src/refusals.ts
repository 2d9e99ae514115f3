/** What was refused, said to the person; a missing or refused token is asked for. */
import { ElNotification } from 'element-plus'
import { ref } from 'vue'
import { Refused } from './api'
import { ours } from './words'

export const needsToken = ref(false)
export const whyRefused = ref<string[]>([])

export function tell(failure: unknown): void {
  if (failure instanceof Refused && failure.status === 401) {
    const issue = failure.issues[0]
    whyRefused.value = [issue?.details.text ?? '', issue?.diagnostics ?? ''].filter(Boolean)
    needsToken.value = true
    return
  }
  const issue = failure instanceof Refused ? failure.issues[0] : undefined
  ElNotification({
    type: 'error',
    title: issue ? ours(issue.details.text) : String(failure),
    message: ours(issue?.diagnostics ?? ''),
    duration: 8000,
  })
}
