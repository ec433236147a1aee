/* The gallery: the pictures that the server keeps, the newest or those that a text describes. */
import { $, fill, h, plural } from './dom.js';
import { ApiError, getJSON } from './api.js';
import { address } from './settings.js';
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
/** Shows what the address asks for. */
export async function showGallery() {
  const q = address().get('q') ?? '', mine = ++asked;
  $('q').value = q;
  $('gallery-note').textContent = 'Looking…';
  for (let tries = 0; asked === mine && !$('view-gallery').hidden; tries++) {
    try {
      const { data } = await search({ ...(q && { q }), k: MOST });
      if (asked === mine) list(q, data);
      return;
    } catch (error) {
      if (!(error instanceof ApiError)) await waitForServer(error, tries);
      else if (asked === mine) return fail(error);
    }
  }
}
function list(q, pictures) {
  const n = plural(pictures.length, 'picture', 'pictures');
  $('gallery-note').textContent = q ? (pictures.length ? `${n}, best match first` : `Nothing looks like “${q}”.`) : pictures.length ? `${n}, newest first` : 'No pictures yet. What you make appears here.';
  fill($('grid'), pictures.map(item));
}
function fail(error) {
  $('gallery-note').textContent = error.message + (error.request ? ` (Request ${error.request}.)` : '');
  fill($('grid'));
}
function item({ prompt, url, seed, width, height }) {
  const picture = pictureView({ width, height }, () => {});
  picture.nodes[0].loading = 'lazy';
  picture.show(url, '', '');
  const use = h('a', { href: '#' + new URLSearchParams({ p: prompt, seed, width, height }), title: prompt }, picture.nodes, h('span', { class: 'what', dir: 'auto' }, prompt), h('span', { class: 'vh' }, ': use this prompt and seed'));
  return h('li', {}, use);
}
