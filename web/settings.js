/* The form and the address: what the next request will say, and links to what was made. */
import { hasKey } from './key.js';
import { $, clip, fill, h } from './dom.js';
import { encode, parse } from './api.js';

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
export function request(kind, valueOf = inForm) {
  const r = { prompt: valueOf('prompt'), previews: 5, ...values(PICTURE, valueOf) };
  return kind === 'generate' ? r : typoOf(r, valueOf);
}
const inForm = f => $(f).value;
/** The comparison that the form asks for, of the picture that r asks for. */
export function typoOf(r, valueOf = inForm) {
  const { encoder, n, seeds, ...rest } = r, method = valueOf('method');
  const attack = { method };
  for (const [f, v] of Object.entries(values(METHODS[method].heeds, valueOf))) attack[TYPO[f]] = v;
  if (attack.against !== EACH) return { ...rest, attack };
  delete attack.against;
  return { ...rest, attack, attacked_per_arm: true };
}
function values(fields, valueOf) {
  const r = {};
  for (const f of fields) {
    const v = f === 'own' ? valueOf(f) : valueOf(f).trim();
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
/** Writes the form, the job on show and the rest of its link into the address and into the link that leads back here from the gallery. */
export function writeAddress(job, verb, rest) {
  if (!known()) return; // the settings of the address are not in the form yet
  const p = new URLSearchParams();
  if ($('prompt').value) p.set('p', $('prompt').value);
  for (const f of FIELDS) if ($(f).value && $(f).value !== defaults[f]) p.set(f, $(f).value);
  if (job && verb) p.set('verb', verb);
  if (job) p.set('job', job);
  if (job && rest) p.set('r', rest);
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

/* A link has a parameter for every field of the form, and in "r" what else the request says, as JSON. */
const MOST = 2000; // characters of r
/** Keys that r does not set: the prompt, which has its own parameter, and those that change no picture. */
const APART = ['prompt', 'prompts', 'previews', 'response', 'priority', 'webhook_url'];
const pick = (object, want) => Object.fromEntries(Object.entries(object).filter(([k, v]) => !APART.includes(k) && want(k, v)));
/** A link shows the job while the server keeps it, and afterwards still makes the same again; if that takes too long a link, it only shows the job. */
export function link(job) {
  const r = job.request, p = new URLSearchParams({ p: r.prompt });
  for (const f of PICTURE) if (r[f] != null) p.set(f, r[f]);
  for (const [f, key] of Object.entries(TYPO)) if (r.attack?.[key] != null) p.set(f, r.attack[key]);
  if (r.attacked_per_arm) p.set('against', EACH);
  if (r.attack) p.set('verb', 'break');
  p.set('job', job.id);
  const rest = encode(unsaid(r, said(p)));
  if (rest !== '{}') p.set('r', rest);
  return location.href.split('#')[0] + '#' + (rest.length > MOST ? new URLSearchParams({ job: job.id }) : p);
}
/** What a resolved request says beyond the parameters of its link; said is what those say. */
function unsaid(r, said) {
  const beyond = (a = {}, b = {}) => pick(a, (k, v) => encode({ [k]: v }) !== encode({ [k]: b[k] }));
  const { attack, ...rest } = beyond(r, { n: 1, ...said }), typo = beyond(r.attack, said.attack);
  return Object.keys(typo).length ? { ...rest, attack: typo } : rest;
}
const kindOf = p => p.get('verb') === 'break' ? 'compare' : 'generate';
/** The request that the parameters of a link say, without r. */
function said(p) {
  const method = Object.hasOwn(METHODS, p.get('method')) ? p.get('method') : 'leaf';
  return request(kindOf(p), f => f === 'method' ? method : p.get(f === 'prompt' ? 'p' : f) ?? '');
}
/** What r says, or null where it is broken. */
function restOf(p) {
  const text = p.get('r') ?? '{}';
  try {
    const rest = text.length <= MOST && parse(text);
    return rest && typeof rest === 'object' && !Array.isArray(rest) ? pick(rest, () => true) : null;
  } catch { return null; }
}
/** How to make again what a link shows, and in words how like it that will be. The request is read from the link, not from the form, which cannot hold all of it. */
export function again(p) {
  const r = said(p), rest = restOf(p), whole = { ...r, ...rest };
  if (r.attack) whole.attack = { ...r.attack, ...rest?.attack };
  const seeded = (whole.seed ?? whole.seeds) && (!r.attack || whole.attack.seed != null || !METHODS[r.attack.method].heeds.includes('typo_seed'));
  const text = !rest ? 'A part of the link is broken and was left out: what is made again may differ.'
    : !seeded ? 'The link holds no seed, so making it again gives another result.'
    : 'The link holds the prompt, the seed and the settings, so making it again gives the same.' + (p.has('r') ? ' Some of them have no field above; “Make it again” uses all.' : '');
  return { kind: kindOf(p), request: whole, text };
}
/** The command that does the same: it saves the picture, or the report of the comparison. */
export function curl(job) {
  const { previews, ...request } = job.request, data = `-d '${encode(request).replaceAll("'", `'\\''`)}'`;
  const key = hasKey() ? ` \\\n  -H "Authorization: Bearer $LEAFSERVE_KEY"` : '';
  if (job.kind === 'compare') return `curl -fsS ${location.origin}/compare -o report.html${key} \\\n  -H 'Content-Type: application/json' -H 'Accept: text/html' \\\n  ${data}`;
  return `curl -fsS ${location.origin}/generate -o picture.png${key} \\\n  -H 'Content-Type: application/json' -H 'Accept: image/png' \\\n  ${data}`;
}
