/* How the text encoder cut a prompt into tokens. */
import { h, plural } from './dom.js';

/** GPT-2's table, which CLIP's vocabulary is written in: every byte as a visible letter. */
const BYTE_OF = new Map();
for (let byte = 0, extra = 256; byte < 256; byte++) {
  const visible = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
  BYTE_OF.set(String.fromCharCode(visible ? byte : extra++), byte);
}
/** The text of a token, or its bytes where it ends inside a character. */
function pieceText(piece) {
  const bytes = Uint8Array.from([...piece.replace(/<\/w>$/, '')].map(c => BYTE_OF.get(c)));
  try { return new TextDecoder('utf-8', { fatal: true }).decode(bytes); } catch { return [...bytes].map(b => b.toString(16)).join(' '); }
}
/** The tokens of job.conditioning, word by word, with a warning when the prompt was cut. */
export function tokensRead({ tokens, truncated }) {
  const words = Object.values(Object.groupBy(tokens, t => t.word)).map(ts => ts.map(t => pieceText(t.piece)));
  return h('section', { class: 'tokens' },
    h('h2', {}, `What the text encoder read: ${plural(tokens.length, 'token', 'tokens')}`),
    truncated && h('p', { class: 'note warn' }, `Prompt cut at ${tokens.length + 2} tokens, start and end mark included: the words after these were not read.`),
    h('ul', { class: 'words', dir: 'auto' }, words.map(w => h('li', { class: 'word' }, w.map(p => h('span', { class: 'chip' }, p)), w.length > 1 && h('span', { class: 'vh' }, ` (one word in ${w.length} pieces)`)))));
}
