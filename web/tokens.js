/* How the text encoder cut prompts into tokens. */
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
const wordsOf = tokens => Object.values(Object.groupBy(tokens.map((t, i) => ({ ...t, i })), t => t.word));
const wordItem = (word, kind, chip) => h('li', { class: 'word' + kind }, word.map(chip), word.length > 1 && h('span', { class: 'vh' }, ` (one word in ${word.length} pieces)`));
const MAX_CUT = 25; // cut tokens that are worth showing
const roomOf = context => context - 2; // the start and end marks take two places
const chipIn = room => t => h(t.i < room ? 'span' : 's', { class: 'chip' }, pieceText(t.piece));
const cutNote = context => h('p', { class: 'note warn' }, `Prompt cut at ${context} tokens, start and end mark included: what comes after was not read.`);

/** The tokens of job.conditioning, word by word. The encoder read as many as its context holds; the others are struck through. */
export function tokensRead({ tokens, truncated }, context) {
  const room = roomOf(context), read = tokens.slice(0, room);
  return h('section', { class: 'tokens' },
    h('h2', { class: 'tiny' }, `What the text encoder read: ${plural(read.length, 'token', 'tokens')}`),
    truncated && cutNote(context),
    h('ul', { class: 'words', dir: 'auto' }, wordsOf(tokens.slice(0, room + MAX_CUT)).map(w => wordItem(w, '', chipIn(room))),
      tokens.length > room + MAX_CUT && h('li', { class: 'note' }, `… and ${tokens.length - room - MAX_CUT} more`)));
}

const NEAR = 8; // words shown on either side of a changed one
/** The tokens of a prompt before and after a typo, with the words that changed marked and what the context does not hold struck through; far from a change words are left out. */
export function tokenPair({ clean, attacked }, context) {
  const room = roomOf(context), chip = chipIn(room);
  const before = wordsOf(clean), after = wordsOf(attacked), text = w => w.map(t => t.piece).join('|');
  const [old, fresh] = [before, after].map(ws => new Set(ws.map(text)));
  const n = Math.min(before.length, after.length);
  let head = 0, tail = 0;
  while (head < n && text(before[head]) === text(after[head])) head++;
  while (tail < n - head && text(before.at(-1 - tail)) === text(after.at(-1 - tail))) tail++;
  function row(title, tokens, words, mark, other) {
    const inside = i => i >= head && i < words.length - tail;
    const single = words.length - tail - head === 1; // it changed, even where its like stands elsewhere in the prompt
    const changed = words.map((w, i) => inside(i) && (single || !other.has(text(w))));
    const near = i => words.length <= 40 || changed.slice(Math.max(0, i - NEAR), i + NEAR + 1).includes(true);
    const items = words.map((w, i) => near(i) ? wordItem(w, changed[i] ? ' ' + mark : '', chip)
      : near(i - 1) || i === 0 ? h('li', { class: 'note' }, '…') : null);
    return h('div', { class: 'tokens' }, h('h3', { class: 'tiny' }, `${title}: ${plural(tokens.length, 'token', 'tokens')}`), h('ul', { class: 'words', dir: 'auto' }, items));
  }
  return [Math.max(clean.length, attacked.length) > room && cutNote(context), row('Clean', clean, before, 'was', fresh), row('Typo', attacked, after, 'hit', old)];
}
