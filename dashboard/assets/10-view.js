/* The address is the truth. This file reads it, writes it, paints the header's controls from it, and asks for data.
 *
 * ask      address or clock -> store "tick" -> the page's one callback
 * stamped  the page's answer arrived: how fresh it is, which pools there are
 * A tick is skipped while an answer is awaited or the tab is hidden.
 */
(function () {
  'use strict';
  const RANGES = { '15m': 900, '1h': 3600, '6h': 21600, '24h': 86400, '7d': 604800 };
  const DEFAULT_RANGE = '1h';
  const SHARED = ['range', 'from', 'to', 'pool', 'engine', 'replica', 'tenant', 'lang'];
  const GIVE_UP_MS = 20000, SHARED_MS = 1100;
  let count = 0, askedAt = 0, waiting = false, stamp = null, stampedAt = 0;

  const words = window.loadline.words;
  const byId = id => document.getElementById(id);
  const params = () => new URLSearchParams(location.search);
  const offset = () => -new Date().getTimezoneOffset() * 60;
  const say = text => { const live = byId('said'); if (live) { live.textContent = text; live.classList.add('on'); clearTimeout(say.timer); say.timer = setTimeout(() => live.classList.remove('on'), 1600); } };
  const stored = (key, fallback) => { try { return localStorage.getItem(key) || fallback; } catch (e) { return fallback; } };
  const store = (key, value) => { try { localStorage.setItem(key, value); } catch (e) { /* private window: not kept */ } };

  function next() {
    waiting = true; askedAt = Date.now();
    return { n: ++count, search: location.search, offset_s: offset() };
  }
  /* the server gives one answer to all for a second: the same answer again would tell nothing, not even that it came */
  function refresh() {
    const early = stamp ? SHARED_MS - (performance.now() - stampedAt) : 0;
    if (early > 0) { clearTimeout(refresh.timer); refresh.timer = setTimeout(refresh, early); return; }
    if (window.dash_clientside && dash_clientside.set_props) dash_clientside.set_props('tick', { data: next() });
  }

  function go(path, query) {
    const text = query.toString();
    history.pushState(null, '', path + (text ? '?' + text : ''));
    dispatchEvent(new PopStateEvent('popstate'));
    paint();
  }
  function change(edit) { const query = params(); edit(query); go(location.pathname, query); }

  /* ranges */
  function fixed() { const q = params(); return q.has('from') && q.has('to') ? [+q.get('from'), +q.get('to')] : null; }
  function relative() { return params().get('range') || (stamp && !fixed() && stamp.range) || DEFAULT_RANGE; }
  function seconds(text) { const m = /^(\d+)([smhdw])$/.exec(text); return m ? m[1] * { s: 1, m: 60, h: 3600, d: 86400, w: 604800 }[m[2]] : RANGES[DEFAULT_RANGE]; }
  function shown() { const f = fixed(); if (f) return f; const end = Math.floor(stamp ? stamp.now_s : Date.now() / 1000); return [end - seconds(relative()), end]; }
  function setRange(text) { store('loadline-range', text); change(q => { q.delete('from'); q.delete('to'); if (text) q.set('range', text); else q.delete('range'); }); }
  function setFixed(from, to) {
    if (to - from < 60) { const middle = (from + to) / 2; from = middle - 30; to = middle + 30; }
    change(q => { q.delete('range'); q.set('from', Math.round(from)); q.set('to', Math.round(to)); });
  }
  function shift(way) {
    const [from, to] = shown(), span = to - from, now = stamp ? stamp.now_s : Date.now() / 1000;
    if (way > 0 && to + span >= now) { setRange(stored('loadline-range', '')); return; }
    setFixed(from + way * span, to + way * span);
  }

  /* painting */
  function moment(time_s, beside_s) {  /* the day is left out where it is that of beside_s */
    const d = new Date(time_s * 1000), pad = n => String(n).padStart(2, '0');
    const day = new Date(beside_s * 1000).toDateString() === d.toDateString() ? '' : `${d.toLocaleDateString(document.documentElement.lang === 'zh' ? 'zh' : 'en-GB', { day: 'numeric', month: 'short' })} `;
    return `${day}${pad(d.getHours())}:${pad(d.getMinutes())}`;
  }
  function paint() {
    const f = fixed(), keep = params(), range = relative();
    for (const key of [...keep.keys()]) if (!SHARED.includes(key)) keep.delete(key);
    document.querySelectorAll('[data-range]').forEach(b => b.setAttribute('aria-pressed', String(!f && b.dataset.range === range)));
    const chip = byId('fixed');
    if (chip) { const odd = !f && !RANGES[range]; chip.hidden = !f && !odd; byId('fixed-text').textContent = f ? `${moment(f[0], Date.now() / 1000)} – ${moment(f[1], f[0])}` : range; }
    document.querySelectorAll('.side a[data-path], a.brand').forEach(a => {
      const path = a.dataset.path || a.pathname, text = keep.toString();
      a.setAttribute('href', path + (text ? '?' + text : ''));
      if (a.dataset.path === location.pathname) { a.setAttribute('aria-current', 'page'); reveal(a); document.title = `${a.children[1].textContent} – Loadline`; } else a.removeAttribute('aria-current');
    });
    const firing = byId('firing'), count = (stamp && stamp.firing) || 0;
    if (firing) { firing.textContent = count || ''; firing.title = words('{n} firing', { n: count }); }
    const select = byId('refresh');
    if (select) select.value = stored('loadline-refresh', '10');
    window.loadline.menus.paint(stamp, params());
  }
  function reveal(link) { const side = link.parentElement; if (side.scrollWidth > side.clientWidth) side.scrollLeft = link.offsetLeft - side.clientWidth / 2 + link.offsetWidth / 2; }
  function age(s) { const n = by => ({ n: Math.round(s / by) }); return s < 60 ? words('{n} s', n(1)) : s < 3600 ? words('{n} m', n(60)) : s < 172800 ? words('{n} h', n(3600)) : words('{n} d', n(86400)); }
  function paintAge() {
    const text = byId('fresh'), dot = byId('fresh-dot'); if (!text || !stamp) return;
    if (stamp.newest_s === null) { text.textContent = stamp.error ? words('source down') : words('no samples'); dot.className = 'fresh fresh-breach'; text.title = stamp.error || words('the source holds no scrapes'); return; }
    const old = Math.max(0, stamp.now_s - stamp.newest_s + (performance.now() - stampedAt) / 1000);
    const state = old > 180 ? 'breach' : old > 45 ? 'warn' : 'ok';
    text.textContent = state === 'ok' ? words('{age} ago', { age: age(old) }) : words('stale {age}', { age: age(old) }); dot.className = `fresh fresh-${state}`;
    text.title = words('age of the newest sample');
  }

  /* clock */
  setInterval(() => {
    paintAge();
    const every = +stored('loadline-refresh', '10') * 1000;
    if (!every || document.hidden || (waiting && Date.now() - askedAt < GIVE_UP_MS)) return;
    if (Date.now() - askedAt >= every) refresh();
  }, 1000);
  document.addEventListener('visibilitychange', () => { if (!document.hidden && Date.now() - askedAt > 5000 && +stored('loadline-refresh', '10')) refresh(); });
  addEventListener('popstate', () => setTimeout(paint));

  function copy(text, what) {
    const done = () => say(words(what));
    if (navigator.clipboard && isSecureContext) { navigator.clipboard.writeText(text).then(done, () => say(words('The browser does not allow copying'))); return; }
    const area = document.createElement('textarea'); area.value = text; document.body.append(area); area.select();
    document.execCommand('copy'); area.remove(); done();
  }
  function share() {
    const query = params(), [from, to] = shown();
    query.delete('range'); query.set('from', from); query.set('to', to);
    copy(`${location.origin}${location.pathname}?${query}`, 'Link copied');
  }
  function toggleTheme() {
    const root = document.documentElement, theme = root.getAttribute('data-theme') === 'dark' ? 'light' : 'dark';
    root.setAttribute('data-theme', theme); store('loadline-theme', theme); say(theme === 'dark' ? words('Dark theme') : words('Light theme'));
  }

  const every = s => s === '0' ? words('Refresh paused') : words('Refresh every {n} s', { n: s });
  function language() { const query = params(); query.set('lang', document.documentElement.lang === 'zh' ? 'en' : 'zh'); location.search = query; }
  function pause() {
    const paused = stored('loadline-refresh', '10') === '0';
    store('loadline-refresh', paused ? stored('loadline-refresh-was', '10') : '0');
    if (!paused) store('loadline-refresh-was', byId('refresh').value);
    paint(); say(every(paused ? byId('refresh').value : '0'));
    if (paused) refresh();
  }

  const ACTS = {
    share, theme: toggleTheme, language, pause, earlier: () => shift(-1), later: () => shift(1),
    live: () => setRange(stored('loadline-range', '')),
    copy: button => copy(queryBeside(button), 'Query copied'),
    table: button => window.loadline.charts.table(button.closest('.panel'), button),
    csv: button => window.loadline.charts.csv(button.closest('.panel')),
    explore: button => { const q = kept(); q.set('expr', queryBeside(button)); go(`${shell().prefix}explore`, q); },
    grafana: button => window.loadline.menus.grafana(queryBeside(button), shell(), shown(), fixed() ? null : relative()),
    help: () => window.loadline.menus.help(),
    absolute: () => window.loadline.menus.absolute(setFixed, setRange),
  };
  const shell = () => byId('shell').dataset;
  const queryBeside = button => button.closest('.m-q').querySelector('code').textContent;
  function kept() { const q = params(); for (const key of [...q.keys()]) if (!SHARED.includes(key)) q.delete(key); return q; }
  document.addEventListener('click', event => {
    const link = event.target.closest('a[data-nav]');
    if (link && !event.metaKey && !event.ctrlKey && !event.shiftKey && event.button === 0) {
      event.preventDefault(); const to = new URL(link.href); go(to.pathname, to.searchParams); scrollTo(0, 0); byId('main').focus({ preventScroll: true }); return;
    }
    const button = event.target.closest('[data-act]'); if (button && ACTS[button.dataset.act]) ACTS[button.dataset.act](button);
    const range = event.target.closest('[data-range]'); if (range) setRange(range.dataset.range);
    document.querySelectorAll('details[open]').forEach(d => { if (!d.contains(event.target)) d.open = false; });
  });
  document.addEventListener('change', event => { if (event.target.id === 'refresh') { store('loadline-refresh', event.target.value); say(every(event.target.value)); } });

  /* keys: g then a page's letter; the rest is in the list that ? shows */
  let g = 0;
  document.addEventListener('keydown', event => {
    if (event.key === 'Escape') { if (!byId('help').hidden) { ACTS.help(); return; } document.querySelectorAll('details[open]').forEach(d => { d.open = false; d.querySelector('summary').focus(); }); return; }
    if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.metaKey || event.ctrlKey || event.altKey) return;
    if (event.key === 'g') { g = Date.now(); return; }
    const link = Date.now() - g < 900 && document.querySelector(`.side a[data-key="${CSS.escape(event.key)}"]`); g = 0;
    if (link) link.click();
    else if (event.key === 't') (document.querySelector('[data-range][aria-pressed=true]') || document.querySelector('[data-range]')).focus();
    else if (event.key === 'r') refresh();
    else if (event.key === 'p') pause();
    else if (event.key === '[') shift(-1);
    else if (event.key === ']') shift(1);
    else if (event.key === '?') ACTS.help();
    else if (event.key === 'f') { const menu = byId('pools'); menu.open = true; (menu.querySelector('input') || menu.querySelector('summary')).focus(); }
  });

  Object.assign(window.loadline, { go, refresh, change, copy, stored, store, setFixed, fixed, shown, live: ACTS.live, age, say, kept, moment, seconds });
  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    loadline: {
      ask() { setTimeout(paint); return next(); },
      stamped(data) {
        if (!data) return;
        waiting = false; stamp = data; stampedAt = performance.now();
        if (data.soon) setTimeout(() => { if (!waiting) refresh(); }, 1500);
        paint(); paintAge(); window.loadline.charts.bind(); document.dispatchEvent(new Event('loadline:stamped'));
      },
    },
  });
})();
