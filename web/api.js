/* The HTTP contract from the browser: JSON with 64-bit seeds, errors, server-sent events. */
import { fetchWithKey } from './key.js';

/* Seeds go up to 2^64-1 but JavaScript's numbers are exact only to 2^53: long integers are kept as strings of digits. */
const STRING_OR_LONG_INTEGER = /"[^"\\]*(?:\\.[^"\\]*)*"|(?<![\d.])\d{16,}(?![\d.eE])/g;
export const parse = text => JSON.parse(text.replace(STRING_OR_LONG_INTEGER, m => m[0] === '"' ? m : `"${m}"`));
/** In JSON a quote inside a string is always escaped, so "seed": can only be a key. */
export const encode = data => JSON.stringify(data).replace(/("seeds?":)("\d+"|\[[\d",]+\])/g, (_, key, v) => key + v.replaceAll('"', ''));

export class ApiError extends Error {
  constructor(response, error) {
    super(error?.message ?? `The server answered ${response.status} without a reason.`);
    this.status = response.status;
    this.param = error?.param;
    this.retryAfter = Number(response.headers.get('Retry-After')) || 5;
    this.request = response.headers.get('X-Request-Id');
  }
  get gone() { return this.status === 404 || this.status === 410; }
}
/** fetch, with the API key and the contract's errors as ApiError; any other error means that nobody answered. An answer makes an "answered" event. */
export async function ask(path, options) {
  const r = await fetchWithKey(path, options);
  if (r.status < 500) dispatchEvent(new CustomEvent('answered', { detail: r.ok }));
  if (!r.ok) throw new ApiError(r, (await r.json().catch(() => null))?.error);
  return r;
}
export const getJSON = async (path, options) => parse(await (await ask(path, options)).text());

const SILENCE = 45_000; // ms without a byte after which a stream counts as dead, as after sleep
/** Server-sent events through fetch: unlike EventSource it can be told where to go on. The first is { type: 'open' }. */
export async function* events(path, last, signal) {
  const silent = new AbortController();
  let timer;
  const heard = () => { clearTimeout(timer); timer = setTimeout(() => silent.abort(), SILENCE); };
  try {
    heard();
    const headers = { Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) };
    const r = await ask(path, { headers, signal: AbortSignal.any([signal, silent.signal]) });
    yield { type: 'open' };
    const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ''; ;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      const blocks = (text + value).split('\n\n');
      text = blocks.pop();
      yield* blocks.map(event).filter(e => e.data);
    }
  } finally {
    clearTimeout(timer);
    silent.abort(); // the reader may have stopped before the stream did
  }
}
function event(block) {
  const e = { data: '' };
  for (const line of block.split('\n')) {
    const [, key, value] = line.match(/^([^:]*):? ?(.*)$/s);
    if (key === 'data') e.data += value; else if (key === 'event') e.type = value; else if (key === 'id') e.id = value;
  }
  return { ...e, data: e.data && parse(e.data) };
}
