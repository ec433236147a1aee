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
const MAX_CUT = 25; // cut tokens that are worth showing

/** The tokens of job.conditioning, word by word. The encoder read as many as its context holds; the others are struck through. */
export function tokensRead({ tokens, truncated }, context) {
  const room = context - 2, read = tokens.slice(0, room); // the start and end marks take two places
  const words = Object.values(Object.groupBy(tokens.slice(0, room + MAX_CUT).map((t, i) => ({ ...t, i })), t => t.word));
  const chip = t => t.i < room ? h('span', { class: 'chip' }, pieceText(t.piece)) : h('s', { class: 'chip' }, pieceText(t.piece));
  const item = w => h('li', { class: 'word' }, w.map(chip), w.length > 1 && h('span', { class: 'vh' }, ` (one word in ${w.length} pieces)`));
  return h('section', { class: 'tokens' },
    h('h2', {}, `What the text encoder read: ${plural(read.length, 'token', 'tokens')}`),
    truncated && h('p', { class: 'note warn' }, `Prompt cut at ${context} tokens, start and end mark included: what comes after was not read.`),
    h('ul', { class: 'words', dir: 'auto' }, words.map(item), tokens.length > room + MAX_CUT && h('li', { class: 'note' }, `… and ${tokens.length - room - MAX_CUT} more`)));
}
