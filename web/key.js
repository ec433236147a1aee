/* The API key, where the server wants one: asked for once, kept in this browser. */
import { $, keep, kept, toast } from './dom.js';

let key = kept(localStorage, 'key') ?? '';
let asking = null; // the dialog, one for all requests that wait for a key; resolves to whether there is a new one

export const hasKey = () => key !== '';
/** fetch with the key. While the server refuses it, asks for another; gives the refusal when the person has none. */
export async function fetchWithKey(path, options = {}) {
  for (;;) {
    const sent = key;
    const r = await fetch(path, { ...options, headers: { ...options.headers, ...(sent && { Authorization: 'Bearer ' + sent }) } });
    if (r.status !== 401) return r;
    if (sent === key) key = kept(localStorage, 'key') ?? ''; // another tab may have a new one
    if (sent === key && !await askForKey(await reasonOf(r.clone()))) return r;
  }
}
const reasonOf = async r => (await r.json().catch(() => null))?.error?.message ?? 'This server wants an API key.';
function askForKey(reason) {
  $('keybox-why').textContent = reason;
  if (key) $('apikey').setAttribute('aria-invalid', 'true'); else $('apikey').removeAttribute('aria-invalid');
  return asking ??= new Promise(answer => {
    const box = $('keybox');
    $('apikey').value = box.returnValue = '';
    box.addEventListener('close', () => {
      asking = null;
      const given = box.returnValue === 'use' && $('apikey').value.trim();
      if (given) use(given);
      answer(Boolean(given));
    }, { once: true });
    box.showModal();
  });
}
function use(text) {
  key = text;
  keep(localStorage, 'key', text);
  offerToForget();
}
/** Offers to forget the key, for those who share their browser. */
export function offerToForget() {
  $('forget').hidden = !key;
  $('forget').onclick = () => { use(''); toast('Key forgotten'); };
}
