/** Where somebody is: the part of the address behind #. */
import { computed, ref } from 'vue'

export const address = ref(location.hash.slice(1) || '/messages')
window.addEventListener('hashchange', () => {
  address.value = location.hash.slice(1) || '/messages'
})

export const page = computed(() => {
  const [path = '', asked = ''] = address.value.split('?')
  const message = /^\/messages\/(\d+)$/.exec(path)
  if (message) return { name: 'message', id: Number(message[1]), asked }
  return { name: path.split('/')[1] || 'messages', id: 0, asked }
})

export function go(where: string): void {
  location.hash = where
}
