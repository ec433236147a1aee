/* The form and the address: what the next request will say, and links to what was made. */
import { $, clip, fill, h } from './dom.js';
import { encode } from './api.js';

/* Ids of the fields. A picture's are named as in a request; a typo's stand for keys of its "attack" object. */
const PICTURE = ['model', 'encoder', 'seed', 'steps', 'guidance_scale', 'width', 'height', 'n', 'negative_prompt'];
const TYPO = { method: 'method', edits: 'edits', against: 'against', own: 'prompt', typo_seed: 'seed' };
const FIELDS = [...PICTURE, ...Object.keys(TYPO)];
const NUMBERS = ['steps', 'guidance_scale', 'width', 'height', 'n', 'edits'];
/** method → what it does, for the note beside "Break it", and the fields that it heeds. */
const METHODS = {
  leaf: { does: 'finds the typo that hurts most', heeds: ['edits', 'against', 'typo_seed'] },
  charmer: { does: 'finds the typo that hurts most', heeds: ['edits', 'against'] },
  keyboard: { does: 'hits a neighbouring key', heeds: ['edits', 'typo_seed'] },
  swap: { does: 'swaps two letters', heeds: ['edits', 'typo_seed'] },
  homoglyph: { does: 'puts in a look-alike letter', heeds: ['edits', 'typo_seed'] },
  random: { does: 'changes a letter at random', heeds: ['edits', 'typo_seed'] },
  manual: { does: 'sets your own typo against the prompt', heeds: ['own'] },
};
const EACH = 'each'; // of "against": every encoder meets its own worst typo

let models = [];                                  // of GET /v1/models; empty until the server told
let defaults = { method: 'leaf', edits: '1' };    // with those of the chosen model, as text
export const known = () => models.length > 0;
export const modelOf = name => models.find(m => m.id === name);
/** Why there is no comparison with this model, or "". */
export function whyNoBreak(name = $('model').value) {
  const m = modelOf(name);
  return !m || m.encoders.length > 1 ? '' : `needs a model with two text encoders; ${name} has one`;
}

export function useModels(list) {
  models = list;
  fill($('model'), models.map(m => h('option', { value: m.id }, m.id)));
}
function useModel(name, encoder, against) {
  const m = modelOf(name) ?? models[0], before = defaults;
  defaults = { method: 'leaf', edits: '1', model: m.id, encoder: m.default_encoder, n: '1', against: m.encoders.includes('standard') ? 'standard' : m.encoders[0] };
  for (const f of ['steps', 'guidance_scale', 'width', 'height']) defaults[f] = String(m[f]);
  for (const f of ['width', 'height']) { $(f).step = $(f).min = m.factor; }
  choose('encoder', [...m.encoders, ...(m.encoders.length > 1 ? ['auto'] : [])].map(e => [e, e]), encoder);
  choose('against', [...m.encoders.map(e => [e, `the ${e} encoder`]), [EACH, 'each encoder in turn']], against);
  $('encoder-note').hidden = !m.encoders.includes('robust');
  for (const f of NUMBERS) if ($(f).value === (before[f] ?? '')) $(f).value = defaults[f];
  $('model').value = m.id;
}
function choose(field, options, wanted) {
  fill($(field), options.map(([value, text]) => h('option', { value }, text)));
  $(field).value = options.some(([value]) => value === wanted) ? wanted : defaults[field];
}

/** Brings everything that tells of the settings up to date; changed is the field that a person changed. */
export function tell(changed) {
  const v = f => $(f).value;
  if (changed === 'model') useModel(v('model'), v('encoder'), v('against'));
  if (changed === 'method' && v('method') === 'manual' && !v('own')) $('own').value = v('prompt'); // to be damaged by hand
  $('recap').textContent = !known() ? 'the server’s' : [v('encoder') + ' encoder', v('model'), v('steps') + ' steps',
    `${v('width')} × ${v('height')}`, v('n') !== '1' && v('n') + ' pictures', v('seed') ? 'seed ' + v('seed') : 'random seed',
    v('negative_prompt') && `without “${clip(v('negative_prompt'))}”`].filter(Boolean).join(' · ');
  const n = [...v('prompt')].length;
  $('prompt-note').textContent = n > 300 ? `${n.toLocaleString('en')} of 4,000 characters. The text encoder reads about 50 words; what comes after is cut off.` : '';
  tellTypo(v('method'), v('edits'));
}
function tellTypo(name, edits) {
  const { does, heeds } = METHODS[name], no = whyNoBreak();
  for (const f of Object.keys(TYPO).slice(1)) $(f).closest('.field').hidden = !heeds.includes(f);
  $('typo').hidden = $('break').disabled = no !== '';
  $('break-note').textContent = no || does + (heeds.includes('edits') && edits !== '1' ? `, ${edits} letters in all,` : '') + ' and shows what it does';
}

/** What the form asks for. Wrong values are sent as they are: the server says what is wrong with them. */
export function request(kind) {
  const r = { prompt: $('prompt').value, previews: 5, ...values(PICTURE) };
  return kind === 'generate' ? r : typoOf(r);
}
/** The comparison that the form asks for, of the picture that r asks for. */
export function typoOf(r) {
  const { encoder, n, seeds, ...rest } = r, method = $('method').value;
  const attack = { method };
  for (const [f, v] of Object.entries(values(METHODS[method].heeds))) attack[TYPO[f]] = v;
  if (attack.against !== EACH) return { ...rest, attack };
  delete attack.against;
  return { ...rest, attack, attacked_per_arm: true };
}
function values(fields) {
  const r = {};
  for (const f of fields) {
    const v = f === 'own' ? $(f).value : $(f).value.trim();
    if (v) r[f] = NUMBERS.includes(f) ? Number(v) : f.endsWith('seed') && /^\d+$/.test(v) ? String(BigInt(v)) : v;
  }
  return r;
}
/** The field that a request's parameter came from. */
export function fieldOf(param) {
  const key = param?.replace(/^attack\./, ''), typo = key !== param && Object.keys(TYPO).find(f => TYPO[f] === key);
  return typo ? $(typo) : PICTURE.includes(param) || param === 'prompt' ? $(param) : null;
}

/** The address keeps everything in its fragment, so that prompts reach neither a log nor a Referer. */
export const address = () => new URLSearchParams(location.hash.slice(1));
/** Writes the form and the job on show into the address and into the link that leads back here from the gallery. */
export function writeAddress(job, verb) {
  if (!known()) return; // the settings of the address are not in the form yet
  const p = new URLSearchParams();
  if ($('prompt').value) p.set('p', $('prompt').value);
  for (const f of FIELDS) if ($(f).value && $(f).value !== defaults[f]) p.set(f, $(f).value);
  if (job && verb) p.set('verb', verb);
  if (job) p.set('job', job);
  $('nav-make').href = '#' + p;
  if (!$('view-make').hidden) history.replaceState(null, '', '#' + p);
}
export function readAddress() {
  $('prompt').value = address().get('p') ?? '';
  readSettings();
}
export function readSettings() {
  const p = address();
  if (known()) useModel(p.get('model'), p.get('encoder'), p.get('against'));
  for (const f of FIELDS.filter(f => !['model', 'encoder', 'against'].includes(f))) $(f).value = p.get(f) ?? defaults[f] ?? '';
  if (!METHODS[$('method').value]) $('method').value = defaults.method;
  tell();
}
/** A link shows the job while the server keeps it, and afterwards still makes the same again. */
export function link(job) {
  const r = job.request, p = new URLSearchParams({ p: r.prompt });
  for (const f of PICTURE) if (r[f] != null) p.set(f, r[f]);
  for (const [f, key] of Object.entries(TYPO)) if (r.attack?.[key] != null) p.set(f, r.attack[key]);
  if (r.attacked_per_arm) p.set('against', EACH);
  if (r.attack) p.set('verb', 'break');
  p.set('job', job.id);
  return location.href.split('#')[0] + '#' + p;
}
/** The command that does the same: it saves the picture, or the report of the comparison. */
export function curl(job) {
  const { previews, ...request } = job.request, data = `-d '${encode(request).replaceAll("'", `'\\''`)}'`;
  if (job.kind === 'compare') return `curl -fsS ${location.origin}/compare -o report.html \\\n  -H 'Content-Type: application/json' -H 'Accept: text/html' \\\n  ${data}`;
  return `curl -fsS ${location.origin}/generate -o picture.png \\\n  -H 'Content-Type: application/json' -H 'Accept: image/png' \\\n  ${data}`;
}
