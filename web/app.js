/* The page of leafserve: the jobs of this tab, and the wiring. dom.js builds nodes, api.js talks to the server, key.js has its key,
   settings.js has the form and the address, connection.js waits for the server, views.js and compare.js show jobs,
   tokens.js shows tokens, gallery.js the stored pictures. */
import { $, button, countdown, fill, h, keep, kept, message, say, sleep, toast } from './dom.js';
import { ApiError, ask, encode, events, getJSON } from './api.js';
import { address, again, fieldOf, known, readAddress, readSettings, request, tell, useModels, whyNoBreak, writeAddress } from './settings.js';
import { offerToForget } from './key.js';
import { hideBanner, tryNow, waitForServer, watchConnection } from './connection.js';
import { emptyView, isLive, singleView, thumbView } from './views.js';
import { compareView, listView } from './compare.js';
import { find, offerGallery, offerReaders, showGallery } from './gallery.js';

/* ── jobs ── */
const jobs = new Map(); // id → entry { job, ui, view, thumb, last, stop }: the jobs of this tab
let current = null;     // id of the job on show
let wanted = null;      // id of the address's job while the server is asked for it
let opened = address(); // the address that was followed last

function track(job) {
  if (jobs.has(job.id)) return;
  const entry = { job, ui: {}, last: '', stop: null };
  jobs.set(job.id, entry);
  entry.view = viewOf(job)(entry, act);
  entry.thumb = thumbView(entry, act);
  $('strip').prepend(entry.thumb.root);
  patch(entry, job);
}
const viewOf = job => job.kind !== 'compare' ? singleView : job.request.prompts?.length ? listView : compareView;
/** What views can have done. */
const act = {
  submit, cancel, refresh, show, current: () => current,
  keepSeed(seed) { $('seed').value = seed; tell(); writePlace(); toast(`Seed ${seed} set`); },
  example(prompt) { $('prompt').value = prompt; tell(); submit(whyNoBreak() ? 'generate' : 'compare'); },
};
const empty = emptyView(act);
function patch(entry, job, ui) {
  const before = entry.job.state;
  Object.assign(entry.job, job);
  Object.assign(entry.ui, ui);
  entry.view.update();
  entry.thumb.update();
  if (job?.state || job?.gone) remember();
  if (job && entry.job.state !== before && !isLive(entry.job)) say(ended(entry.job));
}
function ended({ state, compare, error }) {
  if (state === 'succeeded') return compare ? (compare.summary ?? compare).verdict.text : 'Your picture is ready.';
  return state === 'canceled' ? 'Cancelled.' : 'That did not work: ' + error?.message;
}
/** Writes the form and the job on show into the address. */
function writePlace() {
  const id = wanted ?? current, kind = jobs.get(id)?.job.kind;
  writeAddress(id, wanted ? opened.get('verb') : kind === 'compare' && 'break', opened.get('job') === id && opened.get('r'));
}

/** Puts a job on show; null is the empty page. Only this one has an event stream: a browser opens six connections a host. */
function show(id) {
  const before = jobs.get(current), entry = jobs.get(id);
  before?.stop?.abort();
  current = id;
  wanted = null;
  before?.thumb.update();
  fill($('result'), (entry?.view ?? empty).root);
  $('recent').hidden = jobs.size < (entry ? 2 : 1);
  if (entry) {
    const prompt = $('prompt').value, unsent = prompt && ![...jobs.values()].some(e => e.job.request.prompt === prompt);
    if (!unsent) { $('prompt').value = entry.job.request.prompt; tell(); }
    patch(entry);
    follow(entry);
  }
  watch();
  writePlace();
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
  else if (type === 'preview') patch(entry, null, data.cell ? { previews: { ...entry.ui.previews, [data.cell]: data.image } } : { preview: data.image });
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

let attempt = null; // the request that the server has not taken yet: { kind, text, again(), stop() }
/** Sends a request until the server takes or refuses it. The Idempotency-Key makes a second try after a lost answer safe. */
async function submit(kind, r = request(kind)) {
  if (!r.prompt.trim()) return refuse({ message: 'Write a prompt first.', param: 'prompt' });
  if (kind === 'compare' && whyNoBreak(r.model)) return refuse({ message: `“Break it” ${whyNoBreak(r.model)}.`, param: 'model' });
  const text = encode(r);
  if (attempt?.text === text && attempt.kind === kind) return attempt.again();
  attempt?.stop();
  const mine = attempt = { kind, text, again: tryNow, stop() { attempt = null; clearProblem(); hideIdleBanner(); } };
  const key = [...crypto.getRandomValues(new Uint8Array(16))].map(b => b.toString(16).padStart(2, '0')).join('');
  const headers = { 'Content-Type': 'application/json', Prefer: 'respond-async', 'Idempotency-Key': key };
  for (let tries = 0; attempt === mine; tries++) {
    try {
      const job = await getJSON('/' + kind, { method: 'POST', headers, body: text });
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
/** Takes the banner away when no job waits for the server any more. */
function hideIdleBanner() {
  if (![...jobs.values()].some(e => isLive(e.job))) hideBanner();
}
/** Says why the server did not take the request, beside the field that is wrong. */
function refuse(error) {
  fill($('problem'), message(error.status ? 'The server did not take that' : 'Nothing to draw yet', error.message + (error.request ? ` (Request ${error.request}.)` : ''), true));
  say(error.message);
  const field = fieldOf(error.param);
  if (!field || field.closest('.field')?.hidden) return;
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

/** The tab's jobs live through a reload, and their prompts and seeds through a restart of the server: as many of the last as there is room for. */
function remember() {
  const last = [...jobs.values()].slice(-24).map(e => e.job);
  while (last.length && !keep(sessionStorage, 'jobs', JSON.stringify(last))) last.shift();
}
function recall() {
  try { JSON.parse(kept(sessionStorage, 'jobs') ?? '[]').forEach(track); } catch { /* kept by another version of the page */ }
}
/** Shows the job of the address, which may be one of another tab or day. */
async function open(id) {
  if (!id || jobs.has(id)) return show(id);
  show(null);
  wanted = id;
  writePlace();
  for (let tries = 0; wanted === id; tries++) {
    try {
      track(await getJSON('/jobs/' + id));
      if (wanted === id) show(id);
    } catch (error) {
      if (error.gone) return wanted === id && expired(again(opened));
      await waitForServer(error, tries);
    }
  }
}
function expired({ kind, request, text }) {
  const none = !request.prompt && 'The link holds no prompt, so it cannot be made again.';
  fill($('result'), h('article', { class: 'card' }, message('This result is no longer kept', none || text, false, !none && button('Make it again', () => submit(kind, request)))));
  say('This result is no longer kept.');
}

/* ── wiring ── */
const THEMES = ['system', 'light', 'dark'];
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  $('theme').textContent = 'Theme: ' + name;
  keep(localStorage, 'theme', name);
}
function onKey(e) {
  if (e.isComposing || document.querySelector('dialog[open]')) return;
  if (e.key === '/' && !/^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName)) { e.preventDefault(); ($('view-make').hidden ? $('q') : $('prompt')).focus(); }
  if ($('view-make').hidden) return;
  if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); submit(e.shiftKey ? 'compare' : 'generate'); }
  else if (e.key === 'Escape' && attempt) attempt.stop();
  else if (e.key === 'Escape' && isLive(jobs.get(current)?.job ?? { gone: true })) cancel(jobs.get(current));
}
async function loadModels() {
  for (let tries = 0; !known(); tries++) {
    try { useModels((await getJSON('/v1/models')).data); } catch (error) { await waitForServer(error, tries); }
  }
}
/** Shows what the address names: the gallery, or the composer with a job. */
function route() {
  const gallery = address().get('view') === 'gallery';
  $('view-make').hidden = gallery;
  $('view-gallery').hidden = !gallery;
  $(gallery ? 'nav-gallery' : 'nav-make').setAttribute('aria-current', 'page');
  $(gallery ? 'nav-make' : 'nav-gallery').removeAttribute('aria-current');
  document.title = gallery ? 'Gallery · leafserve' : 'leafserve';
  if (gallery) return showGallery();
  opened = address();
  readAddress();
  open(opened.get('job'));
}
async function start() {
  setTheme(THEMES.find(t => t === kept(localStorage, 'theme')) ?? 'system');
  $('theme').onclick = () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]);
  $('composer').onsubmit = e => { e.preventDefault(); submit('generate'); };
  $('break').onclick = () => submit('compare');
  let typing;
  $('composer').oninput = e => {
    tell(e.target.id);
    clearTimeout(typing);
    typing = setTimeout(writePlace, 400); // browsers limit how often the address may change
  };
  $('search').onsubmit = e => { e.preventDefault(); find(); };
  $('reader').onchange = find;
  addEventListener('keydown', onKey);
  watchConnection();
  offerToForget();
  addEventListener('hashchange', route);
  recall();
  route();
  offerGallery();
  await loadModels();
  readSettings();
  empty.update();
  offerReaders();
  writePlace();
}
start();
