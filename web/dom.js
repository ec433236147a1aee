/* Building nodes, telling people, keeping things in the browser. Knows nothing of jobs. */

export const $ = id => document.getElementById(id);
/** h('p', { class: 'note', onclick: f }, 'text', node) builds a node; false and null are left out. */
export function h(tag, props = {}, ...kids) {
  const el = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (v === false || v == null) continue;
    if (k.startsWith('on')) el.addEventListener(k.slice(2), v);
    else el.setAttribute(k, v === true ? '' : v);
  }
  fill(el, ...kids);
  return el;
}
export const fill = (el, ...kids) => el.replaceChildren(...kids.flat(3).filter(k => k != null && k !== false));
export const button = (text, onclick) => h('button', { type: 'button', onclick }, text);
export const message = (title, text, bad, ...buttons) =>
  h('div', { class: bad ? 'message bad' : 'message' }, h('h2', {}, title), h('p', {}, text), h('div', { class: 'row' }, buttons));
export const sleep = ms => new Promise(ok => setTimeout(ok, ms));
export const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;
export const clip = text => text.length > 120 ? [...text].slice(0, 120).join('') + '…' : text;
export const time = ms => ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;

/** Counts whole seconds down through tick(left); done resolves at zero or at end(). */
export function countdown(seconds, tick) {
  let end;
  const done = new Promise(ok => { end = ok; });
  const timer = setInterval(() => --seconds > 0 ? tick(seconds) : end(), 1000);
  tick(seconds);
  return { done: done.then(() => clearInterval(timer)), end };
}

let saidAt = 0;
/** Tells screen readers: progress at most every 4 s, everything else at once. */
export function say(text, progress = false) {
  if (progress && Date.now() - saidAt < 4000) return;
  saidAt = Date.now();
  $('live').textContent = text;
}
export function toast(text) {
  $('toast').textContent = text;
  $('toast').classList.add('on');
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { $('toast').classList.remove('on'); $('toast').textContent = ''; }, 2500);
}
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(what + ' copied');
  } catch { // no permission, or plain http from another machine
    $('copybox-text').value = text;
    $('copybox').showModal();
    $('copybox-text').select();
  }
}
/** What the browser keeps for this page. keep says whether it did: private windows may refuse, and the room is limited. */
export function keep(store, key, value) { try { store.setItem(key, value); return true; } catch { return false; } }
export function kept(store, key) { try { return store.getItem(key); } catch { return null; } }
