/* The gallery: the pictures that the server keeps, the newest or those that a text describes. */
import { $, fill, h, plural } from './dom.js';
import { ApiError, getJSON } from './api.js';
import { address, modelOf } from './settings.js';
import { waitForServer } from './connection.js';
import { pictureView } from './views.js';

const MOST = 60; // pictures asked for
const search = params => getJSON('/search?' + new URLSearchParams(params));

/** Offers the gallery if this server has one. */
export async function offerGallery() {
  try {
    await search({ k: 1 });
    $('nav-gallery').hidden = false;
  } catch { /* it has none */ }
}
let asked = 0; // searches so far: an answer that was overtaken is not shown
/** Shows what the address asks for: q and the encoder that reads it, a picture that others are to be like, or the newest. */
export async function showGallery() {
  const want = Object.fromEntries(['q', 'encoder', 'like'].map(k => [k, address().get(k)]).filter(([, v]) => v)), mine = ++asked;
  $('q').value = want.q ?? '';
  $('gallery-note').textContent = 'Looking…';
  for (let tries = 0; asked === mine && !$('view-gallery').hidden; tries++) {
    try {
      const answer = await search({ ...want, k: MOST });
      if (asked === mine) list(want, answer);
      return;
    } catch (error) {
      if (!(error instanceof ApiError)) await waitForServer(error, tries);
      else if (asked === mine) return fail(error);
    }
  }
}
/** Has the address ask for what the form says. */
export function find() {
  const q = $('q').value.trim();
  location.hash = new URLSearchParams({ view: 'gallery', ...(q && { q, ...($('reader').value && { encoder: $('reader').value }) }) });
}
let read = {}; // the model and the encoder of the last answer
/** Offers the encoders that can read a search. */
export function offerReaders() {
  const encoders = modelOf(read.model)?.encoders ?? [];
  fill($('reader'), encoders.map(e => h('option', { value: e, selected: e === read.encoder }, e + ' encoder')));
  $('reader').hidden = encoders.length < 2;
}
function list({ q, like }, { data, model, encoder }) {
  const n = plural(data.length, 'picture', 'pictures');
  $('gallery-note').textContent = !data.length ? (q ? `Nothing looks like “${q}”.` : 'No pictures yet. What you make appears here.') :
    n + (q || like ? ', best match first' : ', newest first');
  read = { model, encoder };
  offerReaders();
  fill($('grid'), data.map(item));
}
function fail(error) {
  $('gallery-note').textContent = error.message + (error.request ? ` (Request ${error.request}.)` : '');
  fill($('grid'));
}
function item({ prompt, url, seed, width, height }) {
  const picture = pictureView({ width, height }, () => {});
  picture.nodes[0].loading = 'lazy';
  picture.show(url, '', '');
  const to = params => '#' + new URLSearchParams(params);
  return h('li', {},
    h('a', { class: 'use', href: to({ p: prompt, seed, width, height }), title: prompt }, picture.nodes, h('span', { class: 'what', dir: 'auto' }, prompt), h('span', { class: 'vh' }, ': use this prompt and seed')),
    h('a', { class: 'button quiet', href: to({ view: 'gallery', like: url.split('/').pop() }) }, 'More like this'));
}
