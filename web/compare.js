/* The typo view: what a typo does to a prompt, to both encoders' reading of it, and to their pictures. */
import { button, clip, fill, h, plural, say, time } from './dom.js';
import { factList, isLive, outcomeView, pictureView, progressView, save, shareButtons } from './views.js';
import { tokenPair } from './tokens.js';
import { modelOf } from './settings.js';

const HELD_AT = 0.8; // likeness from which an encoder counts as having held
const armsOf = job => job.request.arms?.length ? job.request.arms : ['standard', 'robust'];
const title = arm => arm[0].toUpperCase() + arm.slice(1);
const known = v => v != null; // figures are missing where the model cannot judge pictures
/** Two digits, cut off rather than rounded: 0.798 must not read as 0.80, which would have held. */
const figure = v => (Math.floor(v * 100 + 1e-9) / 100).toFixed(2);

/** A prompt with its edit marked, by colour and by line; far from an edit the text is left out. */
function diffLine(diff) {
  const FAR = 80;
  const part = ({ t, s }, i) => {
    if (t !== 'same') return h(t, {}, h('span', { class: 'vh' }, t === 'ins' ? ' added: ' : ' removed: '), s === ' ' ? '␣' : s, h('span', { class: 'vh' }, ' '));
    const runes = [...s], head = i === 0 ? 0 : FAR, tail = i === diff.length - 1 ? 0 : FAR;
    return runes.length <= head + tail + FAR ? s : runes.slice(0, head).join('') + ' … ' + (tail ? runes.slice(-tail).join('') : '');
  };
  return h('p', { class: 'diff', dir: 'auto' }, diff.map(part));
}
const FOUND_BY = { leaf: 'LEAF', charmer: 'Charmer', keyboard: 'trying neighbouring keys', swap: 'swapping letters', homoglyph: 'trying look-alikes', random: 'chance' };
function foundText({ method, candidates, ms, edits }) {
  const plain = /^[\x21-\x7e]$/, alike = edits.filter(e => plain.test(e.from) && e.to && !plain.test(e.to));
  const codes = alike.map(e => ` “${e.to}” is U+${e.to.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}.`);
  return (method === 'manual' ? 'Your own typo.' : `Found by ${FOUND_BY[method] ?? method}: ${plural(candidates, 'candidate', 'candidates')} tried in ${time(ms)}.`) + codes.join('');
}
function noneText({ candidates }, { constraint = 'strict' }) {
  if (!candidates) return 'No typo of this kind is possible here: the prompt has no letter for it.';
  return `No typo is allowed here: ${plural(candidates, 'candidate was', 'candidates were')} tried, and the rule “${constraint}” refused all.`;
}
/** The prompt, its edit as soon as it is known, and what there is to say where no edit was allowed. */
function editView({ job }) {
  const root = h('div', { class: 'edit' });
  let shown;
  return { root, update() {
    const a = attackOf(job), now = a ? 'found' : 'clean';
    if (now === shown) return;
    shown = now;
    const none = a && a.method !== 'manual' && !a.edits.length;
    fill(root, diffLine(a && !none ? a.diff : [{ t: 'same', s: job.request.prompt }]),
      none && h('p', { class: 'note' }, noneText(a, job.request.attack), ' The pictures are of the prompt as it is.'));
    if (a) say(none ? `No typo is ${a.candidates ? 'allowed' : 'possible'} here.` : 'Typo found: ' + clip(a.prompt));
  } };
}
const attackOf = job => job.compare?.attack ?? job.attack;

/** Bars of one figure, one an encoder, on a fixed scale from 0 to 1, so that prompts compare. */
function meters(name, arms) {
  const less = h('span', { class: 'less' });
  const bars = arms.map(arm => ({ arm, fill: h('span', { class: 'fill ' + (arm === 'robust' ? 'robust' : '') }), value: h('dd', {}, '–') }));
  const root = h('div', { class: 'tokens' }, h('h3', { class: 'tiny' }, name, less), h('dl', { class: 'meters' }, bars.map(b =>
    h('div', { class: 'meter' }, h('dt', {}, title(b.arm)), b.value, h('dd', { class: 'bar', 'aria-hidden': 'true' }, h('div', { class: 'track' }, b.fill))))));
  return { root, set(values) {
    for (const b of bars) {
      const v = values[b.arm];
      b.value.textContent = known(v) ? v.toFixed(2) : '–';
      b.fill.style.setProperty('--v', Math.min(1, Math.max(0, v ?? 0)));
    }
    less.textContent = times(values.standard, values.robust);
  } };
}
function times(standard, robust) {
  if (!(standard >= 0.005 && robust >= 0.005)) return '';
  const ratio = standard >= robust ? standard / robust : robust / standard;
  return ` · ${ratio.toFixed(ratio < 10 ? 1 : 0)} times ${standard >= robust ? 'less' : 'more'} with robust`;
}
function driftView(job, arms) {
  const whole = meters('Whole prompt', arms), words = meters('Word by word, as the picture reads it', arms);
  const root = h('section', { class: 'panel' }, h('h2', {}, 'How far the typo moves the prompt'), whole.root, words.root,
    h('p', { class: 'scale', 'aria-hidden': 'true' }, h('span', {}, '0 same'), h('span', {}, '1 unrelated')),
    h('p', { class: 'note' }, 'Drift: 1 − cosine between what the encoder makes of the clean prompt and of the typo.'));
  return { root, update() {
    const drift = arm => job.compare?.arms?.[arm]?.attacked.drift ?? attackOf(job)?.drift?.[arm];
    for (const [pair, key] of [[whole, 'pooled'], [words, 'hidden']]) pair.set(Object.fromEntries(arms.map(arm => [arm, drift(arm)?.[key]])));
  } };
}

function cellView(entry, row, arm, act) {
  const { job, ui } = entry, caption = h('figcaption');
  const picture = pictureView(job.request, () => { if (!isLive(job)) act.refresh(entry); });
  const open = h('a', {}, picture.nodes), name = (row === 'clean' ? 'Clean prompt, ' : 'Typo, ') + arm + ' encoder';
  return { root: h('td', {}, h('figure', {}, open, caption)), update() {
    const cell = job.compare?.arms?.[arm]?.[row];
    picture.show(cell?.image.url ?? ui.previews?.[row + arm], name + (cell ? '' : ', unfinished'), job.state === 'queued' ? 'waiting' : 'no preview yet');
    if (!cell || open.href) return;
    open.href = cell.image.url;
    const { clip_score: fit, similarity: likeness } = cell, own = row === 'attacked' && cell.prompt !== attackOf(job).prompt;
    fill(caption, known(fit) && h('span', {}, 'Prompt fit ' + figure(fit)),
      known(likeness) && h('span', {}, `Likeness ${figure(likeness)}: `, h('b', { class: likeness < HELD_AT ? 'broke' : 'held' }, likeness < HELD_AT ? 'broke' : 'held')),
      own && h('span', { class: 'own', dir: 'auto' }, clip(cell.prompt)));
  } };
}
function gridView(entry, arms, act) {
  const cells = ['clean', 'attacked'].map(row => arms.map(arm => cellView(entry, row, arm, act)));
  const line = (name, of, kind) => h('tr', { class: kind }, h('th', { scope: 'row' }, h('span', {}, name)), of.map(c => c.root));
  const root = h('table', { class: 'four' }, h('caption', { class: 'vh' }, 'Pictures from the same noise: clean prompt and typo by encoder'),
    h('thead', {}, h('tr', {}, h('td'), arms.map(arm => h('th', { scope: 'col', class: arm === 'robust' && 'robust' }, title(arm))))),
    h('tbody', {}, line('Clean', cells[0]), line('Typo', cells[1], 'typo')));
  return { root, update() { cells.flat().forEach(c => c.update()); } };
}

const verdictView = ({ tone, tag, text }) => [h('span', { class: 'tag ' + tone }, tag), h('p', {}, text)];
const files = c => [c.report_url && h('a', { class: 'button', href: c.report_url }, 'Report'), c.montage_url && save('Save the pictures', c.montage_url)];
/** Asks for the same comparison with a typo that other random choices find. */
function anotherTypo({ request }, act) {
  const { seed, ...attack } = request.attack;
  return act.submit('compare', { ...request, attack });
}
const CHANCY = ['leaf', 'keyboard', 'swap', 'homoglyph', 'random']; // methods that find another typo with another seed

export function compareView(entry, act) {
  const { job } = entry, arms = armsOf(job);
  const head = h('div', { class: 'verdict' }), found = h('section', { class: 'panel' }), share = h('div', { class: 'row' });
  const progress = progressView(entry, act), edit = editView(entry), grid = gridView(entry, arms, act), drift = driftView(job, arms), outcome = outcomeView(entry, act, () => null);
  const split = h('div', { class: 'split' + (job.request.width < 256 ? '' : ' large') },
    h('div', { class: 'side' }, grid.root, h('p', { class: 'note' }, `Same noise in all. Prompt fit: CLIPScore against the clean prompt, 0 to 1. Likeness: to the clean picture above, 1 is the same; from ${HELD_AT.toFixed(2)} it held.`)),
    h('div', { class: 'panels' }, found, drift.root, share));
  const root = h('article', { class: 'card compare', tabindex: '-1', 'aria-label': 'What the typo does' },
    h('div', { class: 'lead' }, head, progress.root), edit.root, outcome.root, split);
  return { root, update() {
    const c = job.compare, a = attackOf(job), ended = !isLive(job) && !c;
    for (const part of [edit, grid, drift, outcome, progress]) part.update();
    outcome.root.hidden = !ended;
    split.hidden = ended;
    head.parentNode.hidden = ended;
    const damaged = a && a.prompt !== job.request.prompt;
    drift.root.hidden = found.hidden = !damaged;
    if (damaged && !found.firstChild) fill(found, h('h2', {}, 'How the words fall into tokens'), tokenPair(a.tokens, modelOf(job.request.model)?.context ?? 77), h('p', { class: 'note' }, foundText(a)));
    if (!c || share.firstChild) return;
    fill(head, verdictView(c.verdict));
    fill(share, CHANCY.includes(a.method) && button('Another typo', () => anotherTypo(job, act)), shareButtons(job), files(c));
  } };
}

/** A comparison of a list of prompts, which other programs ask for: its summary and its report. */
export function listView(entry, act) {
  const { job } = entry, count = plural(job.request.prompts.length, 'prompt', 'prompts'), progress = progressView(entry, act);
  const outcome = outcomeView(entry, act, () => {
    const { summary: s } = job.compare, held = Object.entries(s.held).map(([arm, n]) => `${arm} ${n}`).join(', ');
    return [h('div', { class: 'verdict' }, verdictView(s.verdict)), factList({ Cases: s.cases, [`Held (likeness ${HELD_AT.toFixed(2)} or more)`]: held }), h('div', { class: 'row' }, files(job.compare))];
  });
  const root = h('article', { class: 'card compare', tabindex: '-1', 'aria-label': 'What typos do' }, h('p', { class: 'said' }, `A comparison of ${count}`), progress.root, outcome.root);
  return { root, update() {
    outcome.update();
    progress.update();
  } };
}
