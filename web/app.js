/* The page of leafserve: views and jobs. dom.js builds nodes, api.js talks to the server, tokens.js shows a prompt's tokens.
   1 settings and address · 2 connection · 3 views · 4 jobs · 5 wiring
   A view is { root, update() }: its nodes are built once and update() changes them, so that focus and
   pictures stay put. Text goes in as text, never as HTML. */
import { $, button, clip, copy, countdown, fill, h, keep, kept, message, plural, say, sleep, time, toast } from './dom.js';
import { ApiError, ask, encode, events, getJSON } from './api.js';
import { tokensRead } from './tokens.js';

/* ── 1 settings and address: ids of the elements are names of request fields ── */
const SETTINGS = ['model', 'encoder', 'seed', 'steps', 'guidance_scale', 'width', 'height', 'n', 'negative_prompt'];
const NUMBERS = ['steps', 'guidance_scale', 'width', 'height', 'n'];
let models = [];   // of GET /v1/models; empty until the server told
let defaults = {}; // of the chosen model, as text

function useModel(name, encoder) {
  const m = models.find(x => x.id === name) ?? models[0], before = defaults;
  defaults = { model: m.id, encoder: m.default_encoder, n: '1' };
  for (const f of ['steps', 'guidance_scale', 'width', 'height']) defaults[f] = String(m[f]);
  for (const f of ['width', 'height']) { $(f).step = $(f).min = m.factor; }
  fill($('encoder'), m.encoders.map(e => h('option', { value: e }, e)));
  $('encoder').value = m.encoders.includes(encoder) ? encoder : m.default_encoder;
  $('encoder-note').hidden = !m.encoders.includes('robust');
  for (const f of NUMBERS) if ($(f).value === (before[f] ?? '')) $(f).value = defaults[f];
  $('model').value = m.id;
}
function recap() {
  const v = f => $(f).value;
  $('recap').textContent = !models.length ? 'the server’s' : [v('encoder') + ' encoder', v('model'), v('steps') + ' steps',
    `${v('width')} × ${v('height')}`, v('n') !== '1' && v('n') + ' pictures', v('seed') ? 'seed ' + v('seed') : 'random seed',
    v('negative_prompt') && `without “${clip(v('negative_prompt'))}”`].filter(Boolean).join(' · ');
  const n = [...v('prompt')].length;
  $('prompt-note').textContent = n > 300 ? `${n.toLocaleString('en')} of 4,000 characters. The text encoder reads about 50 words; what comes after is cut off.` : '';
}
/** What the form asks for. Wrong values are sent as they are: the server says what is wrong with them. */
function request() {
  const r = { prompt: $('prompt').value, previews: 5 };
  for (const f of SETTINGS) {
    const v = $(f).value.trim();
    if (v) r[f] = NUMBERS.includes(f) ? Number(v) : f === 'seed' && /^\d+$/.test(v) ? String(BigInt(v)) : v;
  }
  return r;
}
/** The address keeps everything in its fragment, so that prompts reach neither a log nor a Referer. */
const address = () => new URLSearchParams(location.hash.slice(1));
function writeAddress() {
  if (!models.length) return; // the settings of the address are not in the form yet
  const p = new URLSearchParams();
  if ($('prompt').value) p.set('p', $('prompt').value);
  for (const f of SETTINGS) if ($(f).value && $(f).value !== defaults[f]) p.set(f, $(f).value);
  if (wanted ?? current) p.set('job', wanted ?? current);
  history.replaceState(null, '', '#' + p);
}
function readAddress() {
  $('prompt').value = address().get('p') ?? '';
  readSettings();
}
function readSettings() {
  const p = address();
  if (models.length) useModel(p.get('model'), p.get('encoder'));
  for (const f of SETTINGS.slice(2)) $(f).value = p.get(f) ?? defaults[f] ?? '';
  recap();
}
/** A link shows the job while the server keeps it, and afterwards still makes the same picture again. */
function link(job) {
  const p = new URLSearchParams({ p: job.request.prompt });
  for (const f of SETTINGS) if (job.request[f] != null) p.set(f, job.request[f]);
  p.set('job', job.id);
  return location.href.split('#')[0] + '#' + p;
}
function curl(job) {
  const { previews, ...request } = job.request;
  return `curl -fsS ${location.origin}/generate -o picture.png \\\n  -H 'Content-Type: application/json' -H 'Accept: image/png' \\\n  -d '${encode(request).replaceAll("'", `'\\''`)}'`;
}

/* ── 2 connection ── */
let outage = null; // the one countdown for all who have no connection
/** Resolves when it is time to try again; meanwhile a banner says why nothing moves. */
function waitForServer(error, tries, job) {
  if (!outage) {
    banner((error instanceof ApiError ? error.message : 'No connection to the server.') +
      (job ? ' Your job goes on there; this page picks it up again.' : ' Your prompt is kept; this page tries again.'), false);
    outage = countdown(Math.min(15, 2 ** tries), s => { $('conn-left').textContent = `Next try in ${s} s`; });
    outage.done = outage.done.then(() => { outage = null; });
  }
  return outage.done;
}
const tryNow = () => outage?.end();
function banner(text, good) {
  $('conn-text').textContent = text;
  $('conn-left').hidden = $('conn-now').hidden = good;
  $('conn').classList.toggle('good', good);
  $('conn').hidden = false;
}
const isLost = () => !$('conn').hidden && !$('conn').classList.contains('good');
function connected({ detail: whole }) {
  if (!isLost()) return;
  banner('Connected again.' + (whole ? ' Nothing was lost.' : ''), true);
  setTimeout(() => { $('conn').hidden = !isLost(); }, 4000);
}
/** Takes the banner away when nobody waits for the server any more. */
function hideIdleBanner() {
  if (!isLost() || [...jobs.values()].some(e => isLive(e.job))) return;
  $('conn').hidden = true;
  tryNow(); // ends the countdown, so that the next failure shows a banner again
}

/* ── 3 views ── */
const isLive = job => !job.gone && (job.state === 'queued' || job.state === 'running');

function progressView(entry) {
  const { job, ui } = entry;
  const bar = h('progress', { 'aria-label': 'Progress' }), text = h('span'), stop = button('Cancel', () => cancel(entry));
  const root = h('div', { class: 'progress' }, bar, h('div', { class: 'row' }, text, stop));
  return { root, update() {
    root.hidden = !isLive(job);
    const { step, steps } = job.progress;
    if (step) { bar.max = steps; bar.value = step; } else bar.removeAttribute('value');
    text.textContent = ui.trouble ?? progressText(job, ui);
    stop.textContent = ui.stopping ? 'Stopping…' : 'Cancel';
    if (!root.hidden && current === job.id) say(text.textContent, true);
  } };
}
function progressText({ state, queue, progress: { step, steps } }, { eta, lost }) {
  if (state === 'queued') return queue?.position ? `Waiting: ${plural(queue.position, 'job', 'jobs')} ahead of yours` : 'Waiting: yours is next';
  if (!step) return 'Reading the prompt…';
  return `Step ${step} of ${steps}` + (lost ? ' when the connection broke' : eta > 0 ? ` · about ${Math.ceil(eta / 1000)} s left` : '');
}

/** The picture, or its place: previews sharpen in it, and several pictures take turns. */
function frameView(entry) {
  const { job, ui } = entry, { width, height } = job.request;
  const small = Math.max(width, height) < 256 ? ' small' : '';
  const img = h('img', { class: 'pic' + small, decoding: 'async', onerror: missing });
  const blank = h('div', { class: 'pic blank' + small }), turns = h('div', { class: 'turns' });
  for (const el of [img, blank]) { el.style.setProperty('--w', width + 'px'); el.style.setProperty('--ratio', width / height); }
  let broken;
  function missing() {
    broken = img.getAttribute('src');
    update();
    if (!isLive(job)) refresh(entry);
  }
  function update() {
    const url = job.images[view.picked]?.url ?? (isLive(job) ? ui.preview : null), show = url && url !== broken;
    img.hidden = !show;
    blank.hidden = show;
    if (show && url !== img.getAttribute('src')) img.src = url;
    img.alt = (isLive(job) ? 'Unfinished picture: ' : 'Picture: ') + clip(job.request.prompt);
    blank.textContent = url ? 'The picture could not be loaded.' : !isLive(job) ? 'no picture' : job.state === 'queued' ? 'waiting' : 'no preview yet';
    turns.hidden = job.images.length < 2;
    if (!turns.hidden && !turns.firstChild) fill(turns, job.images.map((im, i) => h('button', { type: 'button', 'aria-label': `Picture ${i + 1}, seed ${im.seed}`, onclick: () => pick(i) }, h('img', { src: im.url, alt: '' }))));
    [...turns.children].forEach((b, i) => b.setAttribute('aria-pressed', i === view.picked));
  }
  function pick(i) {
    view.picked = i;
    update();
    view.onpick();
  }
  const view = { root: h('div', { class: 'frame' }, img, blank, turns), update, picked: 0, onpick() {} };
  return view;
}

/** What there is to know and do about a finished picture. */
function doneView(job, frame) {
  const r = job.request, t = job.timings, seed = h('dd'), save = h('a', { class: 'button' }, 'Download');
  frame.onpick = () => {
    const im = job.images[frame.picked];
    seed.textContent = im.seed;
    save.href = im.url;
    save.download = im.url.split('/').pop();
  };
  frame.onpick();
  const keepSeed = () => { $('seed').value = seed.textContent; recap(); writeAddress(); toast(`Seed ${seed.textContent} set`); };
  const facts = Object.entries({ Seed: seed, Size: `${job.images[0].width} × ${job.images[0].height}`, Model: r.model, Encoder: r.encoder,
    Scheduler: r.scheduler, Steps: r.steps, Guidance: r.guidance_scale, 'Left out': r.negative_prompt,
    Time: `${time(t.total_ms)}: waiting ${time(t.queued_ms)}, prompt ${time(t.encode_ms)}, steps ${time(t.denoise_ms)}, picture ${time(t.decode_ms)}` });
  return [
    h('div', { class: 'row' }, save, button('Keep seed', keepSeed), button('Copy link', () => copy(link(job), 'Link')), button('Copy as curl', () => copy(curl(job), 'Command'))),
    h('dl', { class: 'facts' }, facts.filter(([, v]) => v != null && v !== '').map(([k, v]) => [h('dt', {}, k), v === seed ? v : h('dd', { dir: 'auto' }, v)])),
    job.conditioning && tokensRead(job.conditioning, models.find(m => m.id === r.model)?.context ?? 77)];
}
/** What to say about a job that ended without a picture. */
function endView(job) {
  const again = text => button(text, () => submit(job.request)), { step, steps } = job.progress;
  if (job.gone) return message('This result is no longer kept', 'The server keeps results only for a while. The same seed gives the same picture again.', false, again('Make it again'));
  if (job.state === 'canceled') return message('Cancelled', (step ? `Stopped at step ${step} of ${steps}.` : 'Stopped before the first step.') + ' Nothing was kept.', false, again('Start again'));
  return message('That did not work', `${job.error?.message ?? 'The server gave no reason.'} (Job ${job.id}.)`, true, again('Try again'), button('Edit the prompt', () => $('prompt').focus()));
}
function jobView(entry) {
  const { job } = entry;
  const frame = frameView(entry), progress = progressView(entry), outcome = h('div', { class: 'side' });
  const root = h('article', { class: 'card single' + (job.request.width < 256 ? '' : ' large'), tabindex: '-1', 'aria-label': 'Picture' },
    frame.root, h('div', { class: 'side' }, h('p', { class: 'said', dir: 'auto' }, job.request.prompt), progress.root, outcome));
  let shown = '';
  return { root, update() {
    const now = isLive(job) ? '' : job.gone ? 'gone' : job.state, focused = progress.root.contains(document.activeElement);
    frame.update();
    progress.update();
    outcome.hidden = !now;
    if (now !== shown) fill(outcome, now === 'succeeded' ? doneView(job, frame) : now && endView(job));
    if (now && focused) root.focus(); // Cancel is gone: stay near
    shown = now;
  } };
}
function thumbView(entry) {
  const { job } = entry, b = button('', () => show(job.id));
  return { root: h('li', {}, b), update() {
    const url = job.images[0]?.url;
    const word = job.gone ? 'no longer kept' : { queued: 'waiting', running: 'running', failed: 'failed', canceled: 'stopped' }[job.state] ?? '';
    if (!url || job.gone) b.textContent = word; else if (!b.querySelector('img')) fill(b, h('img', { src: url, alt: '', width: 64, height: 64 }));
    b.setAttribute('aria-label', clip(job.request.prompt) + (word && ', ' + word));
    if (job.id === current) b.setAttribute('aria-current', 'true'); else b.removeAttribute('aria-current');
  } };
}
function emptyView() {
  const typo = 'a photo of a pretty unicron on a green background';
  const examples = ['a 3d rocket on a yellow background', 'a cartoon crab on a black background', typo];
  return h('div', { class: 'empty' }, h('h2', {}, 'One wrong letter can cost you the picture.'),
    h('p', {}, 'Standard text encoders trip over typos; the robust one is trained to read past them. The last of these has a typo:'),
    h('div', { class: 'examples' }, examples.map(text => button(text, () => { $('prompt').value = text; recap(); submit(request()); }))));
}

/* ── 4 jobs ── */
const jobs = new Map(); // id → entry { job, ui, view, thumb, last, stop }: the jobs of this tab
let current = null;     // id of the job on show
let wanted = null;      // id of the address's job while the server is asked for it

function track(job) {
  if (jobs.has(job.id)) return;
  const entry = { job, ui: {}, last: '', stop: null };
  jobs.set(job.id, entry);
  entry.view = jobView(entry);
  entry.thumb = thumbView(entry);
  $('strip').prepend(entry.thumb.root);
  patch(entry, job);
}
function patch(entry, job, ui) {
  const before = entry.job.state;
  Object.assign(entry.job, job);
  Object.assign(entry.ui, ui);
  entry.view.update();
  entry.thumb.update();
  if (job?.state || job?.gone) remember();
  if (job && entry.job.state !== before && !isLive(entry.job)) say(ended(entry.job));
}
const ended = job => ({ succeeded: 'Your picture is ready.', canceled: 'Cancelled.' })[job.state] ?? 'That did not work: ' + job.error?.message;

/** Puts a job on show; null is the empty page. Only this one has an event stream: a browser opens six connections a host. */
function show(id) {
  const before = jobs.get(current), entry = jobs.get(id);
  before?.stop?.abort();
  current = id;
  wanted = null;
  before?.thumb.update();
  fill($('result'), entry?.view.root ?? emptyView());
  $('recent').hidden = jobs.size < (entry ? 2 : 1);
  if (entry) {
    const prompt = $('prompt').value, unsent = prompt && ![...jobs.values()].some(e => e.job.request.prompt === prompt);
    if (!unsent) { $('prompt').value = entry.job.request.prompt; recap(); }
    patch(entry);
    follow(entry);
  }
  watch();
  writeAddress();
}
/** Follows a job to its end through lost connections: the server replays what came after the last id. */
async function follow(entry) {
  const { job } = entry, stop = entry.stop = new AbortController();
  for (let tries = 0; isLive(job);) {
    try {
      for await (const e of events(`/jobs/${job.id}/events`, entry.last, stop.signal)) {
        tries = 0;
        if (e.id) entry.last = e.id;
        apply(entry, e);
        if (!isLive(job)) return;
      }
      await sleep(500); // the server closed the stream in good order
    } catch (error) {
      if (!stop.signal.aborted) await lost(entry, error, tries++);
    }
    if (stop.signal.aborted) return;
  }
}
function apply(entry, { type, data }) {
  if (type === 'open') patch(entry, null, { lost: false });
  else if (type === 'state' || type === 'done') patch(entry, data);
  else if (type === 'step') patch(entry, { progress: { step: data.step, steps: data.steps } }, { eta: data.eta_ms });
  else if (type === 'preview') patch(entry, null, { preview: data.image });
}
async function lost(entry, error, tries) {
  if (error.gone) return patch(entry, { gone: true });
  patch(entry, null, { lost: true });
  await waitForServer(error, tries, entry.job);
}
/** Asks for a job's state until there is an answer. */
async function refresh(entry) {
  for (let tries = 0; !entry.job.gone; tries++) {
    try { return patch(entry, await getJSON('/jobs/' + entry.job.id)); } catch (error) { await lost(entry, error, tries); }
  }
}
/** Keeps the jobs that are not on show up to date, one after the other. */
async function watch() {
  if (watch.on) return;
  watch.on = true;
  const others = () => [...jobs.values()].filter(e => isLive(e.job) && e.job.id !== current);
  while (others().length) {
    await sleep(3000);
    for (const entry of others()) await refresh(entry);
  }
  watch.on = false;
}

let attempt = null; // the request that the server has not taken yet: { text, again(), stop() }
/** Sends a request until the server takes or refuses it. The Idempotency-Key makes a second try after a lost answer safe. */
async function submit(r) {
  if (!r.prompt.trim()) return refuse({ message: 'Write a prompt first.', param: 'prompt' });
  const text = encode(r);
  if (attempt?.text === text) return attempt.again();
  attempt?.stop();
  const mine = attempt = { text, again: tryNow, stop() { attempt = null; clearProblem(); hideIdleBanner(); } };
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map(b => b.toString(16).padStart(2, '0')).join('');
  const headers = { 'Content-Type': 'application/json', Prefer: 'respond-async', 'Idempotency-Key': key };
  for (let tries = 0; attempt === mine; tries++) {
    try {
      const job = await getJSON('/generate', { method: 'POST', headers, body: text });
      if (attempt === mine) mine.stop();
      track(job);
      show(job.id);
      $('result').scrollIntoView({ block: 'nearest' });
    } catch (error) {
      if (!(error instanceof ApiError)) await waitForServer(error, tries);
      else if (error.status === 429 || error.status === 503) await full(error, mine);
      else { mine.stop(); refuse(error); }
    }
  }
}
/** Says why the server did not take the request, beside the field that is wrong. */
function refuse(error) {
  fill($('problem'), message(error.status ? 'The server did not take that' : 'Nothing to draw yet', error.message + (error.request ? ` (Request ${error.request}.)` : ''), true));
  say(error.message);
  const field = error.param && (SETTINGS.includes(error.param) || error.param === 'prompt') && $(error.param);
  if (!field) return;
  if (field.closest('#settings')) $('settings').open = true;
  field.setAttribute('aria-invalid', 'true');
  field.addEventListener('input', clearProblem, { once: true });
  field.focus();
}
function clearProblem() {
  if ($('problem').contains(document.activeElement)) $('go').focus();
  fill($('problem'));
  document.querySelector('[aria-invalid]')?.removeAttribute('aria-invalid');
}
/** A queue that is full, or a server that is not ready: counts down and lets the loop of submit go on. */
async function full(error, mine) {
  const left = h('strong', { class: 'num' });
  const wait = countdown(error.retryAfter, s => { left.textContent = `${s} s`; });
  const stop = () => { attempt = null; wait.end(); };
  Object.assign(mine, { again: wait.end, stop });
  const title = error.status === 429 ? 'The queue is full' : 'The server is not ready';
  fill($('problem'), message(title, [h('span', {}, error.message + ' Trying again in '), left, '.'], false, button('Try now', wait.end), button('Stop trying', stop)));
  say(title + '. Trying again by itself.');
  await wait.done;
  clearProblem();
}
async function cancel(entry) {
  patch(entry, null, { stopping: true, trouble: null });
  try {
    await ask('/jobs/' + entry.job.id, { method: 'DELETE' }); // the event stream tells the rest
  } catch (error) {
    if (error.gone) patch(entry, { gone: true });
    else patch(entry, null, { stopping: false, trouble: 'Could not cancel: ' + (error instanceof ApiError ? error.message : 'no connection to the server.') });
  }
}

/** The tab's jobs live through a reload, and their prompts and seeds through a restart of the server. */
const remember = () => keep(sessionStorage, 'jobs', JSON.stringify([...jobs.values()].slice(-24).map(e => e.job)));
function recall() {
  try { JSON.parse(kept(sessionStorage, 'jobs') ?? '[]').forEach(track); } catch { /* kept by another version of the page */ }
}
/** Shows the job of the address, which may be one of another tab or day. */
async function open(id) {
  if (!id || jobs.has(id)) return show(id);
  show(null);
  wanted = id;
  for (let tries = 0; wanted === id; tries++) {
    try {
      track(await getJSON('/jobs/' + id));
      if (wanted === id) show(id);
    } catch (error) {
      if (error.gone) return expired();
      await waitForServer(error, tries);
    }
  }
}
function expired() {
  const again = $('prompt').value && button('Make it again', () => submit(request()));
  fill($('result'), h('article', { class: 'card' }, message('This result is no longer kept',
    again ? 'The prompt, the seed and the settings are above, and the same seed gives the same picture again.' : 'The link holds no prompt, so it cannot be made again.', false, again)));
  say('This result is no longer kept.');
}

/* ── 5 wiring ── */
const THEMES = ['system', 'light', 'dark'];
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $('theme').textContent = 'Theme: ' + name;
  keep(localStorage, 'theme', name);
}
function onKey(e) {
  if (e.isComposing || $('copybox').open) return;
  if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); submit(request()); }
  else if (e.key === 'Escape' && attempt) attempt.stop();
  else if (e.key === 'Escape' && isLive(jobs.get(current)?.job ?? { gone: true })) cancel(jobs.get(current));
  else if (e.key === '/' && !/^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) { e.preventDefault(); $('prompt').focus(); }
}
async function loadModels() {
  for (let tries = 0; !models.length; tries++) {
    try { models = (await getJSON('/v1/models')).data; } catch (error) { await waitForServer(error, tries); }
  }
  fill($('model'), models.map(m => h('option', { value: m.id }, m.id)));
}
async function start() {
  setTheme(THEMES.find(t => t === kept(localStorage, 'theme')) ?? 'system');
  $('theme').onclick = () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]);
  $('composer').onsubmit = e => { e.preventDefault(); submit(request()); };
  let typing;
  $('composer').oninput = e => {
    if (e.target.id === 'model') useModel(e.target.value, $('encoder').value);
    recap();
    clearTimeout(typing);
    typing = setTimeout(writeAddress, 400); // browsers limit how often the address may change
  };
  addEventListener('keydown', onKey);
  $('conn-now').onclick = tryNow;
  addEventListener('answered', connected);
  addEventListener('online', tryNow);
  addEventListener('visibilitychange', () => { if (!document.hidden) tryNow(); });
  addEventListener('hashchange', () => { readAddress(); open(address().get('job')); });
  readAddress();
  recall();
  open(address().get('job'));
  await loadModels();
  readSettings();
  writeAddress();
}
start();
