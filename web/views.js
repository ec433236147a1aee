/* The views of a job: what is shown of it while it waits, runs and has ended; the typo view is in compare.js.
   A view is { root, update() }: its nodes are built once and update() changes them, so that focus and
   pictures stay put. What a view can have done, it asks of act: submit, cancel, refresh, show, keepSeed, current. */
import { $, button, clip, copy, fill, h, message, plural, say, time } from './dom.js';
import { curl, link, modelOf, typoOf, whyNoBreak } from './settings.js';
import { tokensRead } from './tokens.js';

export const isLive = job => !job.gone && (job.state === 'queued' || job.state === 'running');

export function progressView(entry, act) {
  const { job, ui } = entry;
  const bar = h('progress', { 'aria-label': 'Progress' }), text = h('span'), stop = button('Cancel', () => act.cancel(entry));
  const root = h('div', { class: 'progress' }, bar, h('div', { class: 'row' }, text, stop));
  return { root, update() {
    const focused = root.contains(document.activeElement);
    root.hidden = !isLive(job);
    const { step, steps } = job.progress;
    if (step) { bar.max = steps; bar.value = step; } else bar.removeAttribute('value');
    text.textContent = ui.trouble ?? progressText(job, ui);
    stop.textContent = ui.stopping ? 'Stopping…' : 'Cancel';
    if (!root.hidden && act.current() === job.id) say(text.textContent, true);
    if (root.hidden && focused) root.closest('article').focus(); // Cancel is gone: stay near
  } };
}
function progressText({ state, queue, attack, request, progress: { step, steps } }, { eta, lost }) {
  if (state === 'queued') return queue?.position ? `Waiting: ${plural(queue.position, 'job', 'jobs')} ahead of yours` : 'Waiting: yours is next';
  if (!step && request.attack && !attack && request.attack.method !== 'manual') return 'Looking for the typo…';
  if (!step) return 'Reading the prompt…';
  return `Step ${step} of ${steps}` + (lost ? ' when the connection broke' : eta > 0 ? ` · about ${Math.ceil(eta / 1000)} s left` : '');
}

/** A picture, or its place: the space is kept before there is one. onbroken is told of a picture that does not load. */
export function pictureView({ width, height }, onbroken) {
  const small = Math.max(width, height) < 256 ? ' small' : '';
  const img = h('img', { class: 'pic' + small, decoding: 'async', onerror: missing }), blank = h('div', { class: 'pic blank' + small });
  for (const el of [img, blank]) { el.style.setProperty('--w', width + 'px'); el.style.setProperty('--ratio', width / height); }
  let broken, last = [];
  function missing() {
    broken = img.getAttribute('src');
    show(...last);
    onbroken();
  }
  function show(url, alt, none) {
    last = [url, alt, none];
    const whole = url && url !== broken;
    img.hidden = !whole;
    blank.hidden = whole;
    if (whole && url !== img.getAttribute('src')) img.src = url;
    img.alt = alt;
    blank.textContent = url ? 'The picture could not be loaded.' : none;
  }
  return { nodes: [img, blank], show };
}
/** The pictures of a job, which take turns in one frame; previews sharpen in it. */
function frameView(entry, act) {
  const { job, ui } = entry, turns = h('div', { class: 'turns' });
  const picture = pictureView(job.request, () => { if (!isLive(job)) act.refresh(entry); });
  function update() {
    const url = job.images[view.picked]?.url ?? (isLive(job) ? ui.preview : null);
    picture.show(url, (isLive(job) ? 'Unfinished picture: ' : 'Picture: ') + clip(job.request.prompt), !isLive(job) ? 'no picture' : job.state === 'queued' ? 'waiting' : 'no preview yet');
    turns.hidden = job.images.length < 2;
    if (!turns.hidden && !turns.firstChild) fill(turns, job.images.map((im, i) => h('button', { type: 'button', 'aria-label': `Picture ${i + 1}, seed ${im.seed}`, onclick: () => pick(i) }, h('img', { src: im.url, alt: '' }))));
    [...turns.children].forEach((b, i) => b.setAttribute('aria-pressed', i === view.picked));
  }
  function pick(i) {
    view.picked = i;
    update();
    view.onpick();
  }
  const view = { root: h('div', { class: 'frame' }, picture.nodes, turns), update, picked: 0, onpick() {} };
  return view;
}

export const shareButtons = job => [button('Copy link', () => copy(link(job), 'Link')), button('Copy as curl', () => copy(curl(job), 'Command'))];
export const save = (text, url) => h('a', { class: 'button', href: url, download: url.split('/').pop() }, text);
export const factList = facts => h('dl', { class: 'facts' }, Object.entries(facts).filter(([, v]) => v != null && v !== '')
  .map(([k, v]) => [h('dt', {}, k), v.nodeName === 'DD' ? v : h('dd', { dir: 'auto' }, v)]));

/** What the encoder will make of a prompt, in words. */
function healthText({ words, fragility }) {
  const odd = words.map(w => `“${w.word}” ` + (w.misspelled ? 'looks misspelled' + (w.suggestion ? ` (“${w.suggestion}”?)` : '') : `falls into ${w.pieces} tokens`) + '.');
  return `${odd.join(' ') || 'No word looks damaged.'} One random typo would move it by about ${fragility.toFixed(2)} (0: not at all, 1: to something unrelated).`;
}
/** What there is to know and do about a finished picture. */
function doneView(job, frame, act) {
  const r = job.request, t = job.timings, seed = h('dd'), download = save('Download', job.images[0].url);
  frame.onpick = () => {
    const im = job.images[frame.picked];
    seed.textContent = im.seed;
    download.href = im.url;
    download.download = im.url.split('/').pop();
  };
  frame.onpick();
  const breakIt = h('button', { type: 'button', class: 'break', onclick: () => act.submit('compare', typoOf({ ...r, seed: seed.textContent })) }, 'Break it');
  return [
    h('div', { class: 'row' }, download, !whyNoBreak(r.model) && breakIt, button('Keep seed', () => act.keepSeed(seed.textContent)), shareButtons(job)),
    factList({ Seed: seed, Size: `${job.images[0].width} × ${job.images[0].height}`, Model: r.model, Encoder: r.encoder,
      Scheduler: r.scheduler, Steps: r.steps, Guidance: r.guidance_scale, 'Left out': r.negative_prompt, 'Prompt health': job.health && healthText(job.health),
      Time: `${time(t.total_ms)}: waiting ${time(t.queued_ms)}, prompt ${time(t.encode_ms)}, steps ${time(t.denoise_ms)}, picture ${time(t.decode_ms)}` }),
    job.conditioning && tokensRead(job.conditioning, modelOf(r.model)?.context ?? 77)];
}
/** What to say about a job that ended without a picture. */
function endView(job, act) {
  const again = text => button(text, () => act.submit(job.kind, job.request)), { step, steps } = job.progress;
  if (job.gone) return message('This result is no longer kept', 'The server keeps results only for a while. The same seed gives the same picture again.', false, again('Make it again'));
  if (job.state === 'canceled') return message('Cancelled', (step ? `Stopped at step ${step} of ${steps}.` : 'Stopped before the first step.') + ' Nothing was kept.', false, again('Start again'));
  return message('That did not work', `${job.error?.message ?? 'The server gave no reason.'} (Job ${job.id}.)`, true, again('Try again'), button('Edit the prompt', () => $('prompt').focus()));
}
/** The end of a job, built once when it comes: done() where there is something to show, otherwise why not. */
export function outcomeView({ job }, act, done) {
  const root = h('div', { class: 'side' });
  let shown = '';
  return { root, update() {
    const now = isLive(job) ? '' : job.gone ? 'gone' : job.state;
    root.hidden = !now;
    if (now !== shown) fill(root, now === 'succeeded' ? done() : now && endView(job, act));
    shown = now;
  } };
}
export function singleView(entry, act) {
  const { job } = entry;
  const frame = frameView(entry, act), progress = progressView(entry, act), outcome = outcomeView(entry, act, () => doneView(job, frame, act));
  const root = h('article', { class: 'card single' + (job.request.width < 256 ? '' : ' large'), tabindex: '-1', 'aria-label': 'Picture' },
    frame.root, h('div', { class: 'side' }, h('p', { class: 'said', dir: 'auto' }, job.request.prompt), progress.root, outcome.root));
  return { root, update() {
    frame.update();
    outcome.update();
    progress.update();
  } };
}

export function thumbView({ job }, act) {
  const b = button('', () => act.show(job.id)), typo = job.kind === 'compare';
  const name = (typo ? 'Typo view: ' : '') + clip(job.request.prompt || plural(job.request.prompts?.length ?? 0, 'prompt', 'prompts'));
  return { root: h('li', {}, b), update() {
    const url = job.compare?.arms?.standard?.attacked.image.url ?? job.images[0]?.url;
    const word = job.gone ? 'no longer kept' : { queued: 'waiting', running: 'running', failed: 'failed', canceled: 'stopped', succeeded: url ? '' : 'done' }[job.state] ?? '';
    if (word) b.textContent = word; else if (!b.querySelector('img')) fill(b, h('img', { src: url, alt: '', width: 64, height: 64 }), typo && h('span', { class: 'kind', 'aria-hidden': 'true' }, 'typo'));
    b.setAttribute('aria-label', name + (word && ', ' + word));
    if (job.id === act.current()) b.setAttribute('aria-current', 'true'); else b.removeAttribute('aria-current');
  } };
}
/** The page before its first job. The samples are the default model's, seed 7, 25 steps, of the prompt in their alternative text. */
export function emptyView(act) {
  const examples = ['a 3d rocket on an orange background', 'a flat sailboat on a cyan background', 'a cartoon castle in front of a pink background'];
  const sample = (encoder, what) => h('figure', {}, h('img', { class: 'pic small', src: `sample-${encoder}.webp`, width: 192, height: 192, alt: `“a 3d unicrn on an orange background”, ${encoder} encoder: ${what}` }),
    h('figcaption', {}, h('span', { class: 'diff' }, 'a 3d unic', h('del', {}, 'o'), 'rn'), h('br'), `${encoder} encoder`));
  const lead = h('p');
  const root = h('div', { class: 'empty' }, h('div', { class: 'side' }, h('h2', {}, 'One wrong letter can cost you the picture.'), lead,
    h('div', { class: 'examples' }, examples.map(text => button(text, () => act.example(text))))),
    h('div', { class: 'sample' }, sample('standard', 'no unicorn'), sample('robust', 'a unicorn')));
  return { root, update() {
    lead.textContent = 'Standard text encoders trip over typos. The robust encoder is trained to read past them. ' + (whyNoBreak() ? 'Draw one of these:' : 'Break one of these and compare:');
  } };
}
