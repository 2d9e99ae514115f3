/** What was refused, said to the person; a missing token is asked for. */
import { ElNotification } from 'element-plus'
import { ref } from 'vue'
import { Refused } from './api'
import { ours } from './words'

export const needsToken = ref(false)

export function tell(failure: unknown): void {
  if (failure instanceof Refused && failure.status === 401) {
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
