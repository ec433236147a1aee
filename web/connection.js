/* The connection to the server: one banner and one countdown for all who wait for it. */
import { $, countdown } from './dom.js';
import { ApiError } from './api.js';

let outage = null; // the countdown, while there is no connection
/** Resolves when it is time to try again; meanwhile a banner says why nothing moves. */
export function waitForServer(error, tries, job) {
  if (!outage) {
    banner((error instanceof ApiError ? error.message : 'No connection to the server.') +
      (job ? ' Your job goes on there; this page picks it up again.' : ' Your prompt is kept; this page tries again.'), false);
    outage = countdown(Math.min(15, 2 ** tries), s => { $('conn-left').textContent = `Next try in ${s} s`; });
    outage.done = outage.done.then(() => { outage = null; });
  }
  return outage.done;
}
export const tryNow = () => outage?.end();
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
/** Takes the banner away; for when nobody waits for the server any more. */
export function hideBanner() {
  if (!isLost()) return;
  $('conn').hidden = true;
  tryNow(); // ends the countdown, so that the next failure shows a banner again
}
export function watchConnection() {
  $('conn-now').onclick = tryNow;
  addEventListener('answered', connected);
  addEventListener('online', tryNow);
  addEventListener('visibilitychange', () => { if (!document.hidden) tryNow(); });
}
