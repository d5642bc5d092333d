/* What the header's menus hold: filters from the answer's stamp, any range, the list of keys, the way to Grafana. */
(function () {
  'use strict';
  const words = window.loadline.words;
  const byId = id => document.getElementById(id);
  const NAMES = { pool: ['pools', 'All pools', 'pools'], engine: ['engines'], replica: ['replicas'], tenant: ['tenants'] };
  const make = (tag, more, ...children) => { const node = Object.assign(document.createElement(tag), more); node.append(...children); return node; };

  function paint(stamp, query) {
    if (!stamp) return;
    let beside = 0;
    for (const [name, [list]] of Object.entries(NAMES)) {
      const chosen = query.getAll(name), set = byId(`${name}-set`);
      const all = [...new Set([...(stamp[list] || []), ...chosen])].sort();
      if (name !== 'pool') { beside += chosen.length; set.hidden = all.length < (name === 'engine' ? 2 : 1); }
      fill(byId(`${name}-list`), name, all, chosen);
    }
    const pools = query.getAll('pool');
    byId('pools-text').textContent = !pools.length ? words('All pools') : pools.length === 1 ? pools[0] : words('{n} pools', { n: pools.length });
    byId('filters-text').textContent = beside ? words('Filter: {n}', { n: beside }) : words('Filter');
    byId('filters').hidden = !beside && ['engine', 'replica', 'tenant'].every(name => byId(`${name}-set`).hidden);
  }
  function fill(list, name, all, chosen) {
    const key = JSON.stringify([all, chosen]);
    if (!list || list.dataset.key === key) return;
    const focused = document.activeElement && list.contains(document.activeElement) ? document.activeElement.value : null;
    list.dataset.key = key; list.replaceChildren();
    if (!all.length) list.append(make('p', { textContent: words('None seen yet') }));
    for (const value of all) {
      const box = make('input', { type: 'checkbox', value, checked: chosen.includes(value) });
      box.addEventListener('change', () => window.loadline.change(q => {
        const rest = q.getAll(name).filter(one => one !== value); q.delete(name);
        (box.checked ? [...rest, value] : rest).forEach(one => q.append(name, one));
      }));
      list.append(make('label', {}, box, ' ', value));
      if (value === focused) box.focus();
    }
  }

  /* any range, on the viewer's clock: from and to, or a length such as 36h */
  const local = time_s => { const d = new Date((time_s - new Date(time_s * 1000).getTimezoneOffset() * 60) * 1000); return d.toISOString().slice(0, 16); };
  function form() {
    const [from, to] = window.loadline.shown(), field = (id, text, more) => make('label', {}, text, make('input', { id, className: 'in', ...more }));
    byId('abs-form').replaceChildren(
      field('abs-from', words('From'), { type: 'datetime-local', value: local(from) }), field('abs-to', words('To'), { type: 'datetime-local', value: local(to) }),
      field('abs-len', words('or the last'), { type: 'text', placeholder: '36h', size: 8 }), make('p', { id: 'abs-why', className: 'abs-why' }),
      Object.assign(make('button', { type: 'button', className: 'btn btn-p', textContent: words('Show') }), {}));
    byId('abs-why').setAttribute('role', 'alert');
    byId('abs-form').querySelector('button').dataset.act = 'absolute';
  }
  function absolute(setFixed, setRange) {
    const length = byId('abs-len').value.trim(), why = text => { byId('abs-why').textContent = text; };
    if (length) { if (!/^\d{1,6}[smhdw]$/.test(length)) { why(words('A duration looks like 90m, 36h or 7d.')); return; } setRange(length); }
    else {
      const from = new Date(byId('abs-from').value).getTime() / 1000, to = new Date(byId('abs-to').value).getTime() / 1000;
      if (!(to > from)) { why(words('From must lie before To.')); return; }
      setFixed(from, to);
    }
    byId('absolute').open = false;
  }
  document.addEventListener('toggle', event => { if (event.target.id === 'absolute' && event.target.open) form(); }, true);
  document.addEventListener('keydown', event => { if (event.key === 'Enter' && event.target.closest && event.target.closest('#abs-form')) byId('abs-form').querySelector('button').click(); });

  /* what can be done with the PromQL in a panel's menu; made when it opens, so that no refresh carries it */
  const ON_QUERY = [['copy', 'copy', words('Copy PromQL')], ['explore', 'terminal-2', words('Open in Explore')], ['grafana', 'external-link', words('Open in Grafana')]];
  function dress(menu) {
    menu.querySelectorAll('.m-q').forEach(row => {
      if (row.querySelector('button')) return;
      for (const [act, symbol, label] of ON_QUERY) {
        const button = make('button', { type: 'button', title: label }, make('span', { className: `ic ic-${symbol}` }));
        button.dataset.act = act; button.setAttribute('aria-label', label);
        row.append(button);
      }
    });
  }
  document.addEventListener('toggle', event => { if (event.target.matches && event.target.matches('.p-m[open]')) dress(event.target); }, true);
  document.addEventListener('loadline:stamped', () => requestAnimationFrame(() => document.querySelectorAll('.p-m[open]').forEach(dress)));

  /* a control named param-NAME writes NAME into the address and follows it; data-usual is its value where the address is silent */
  const usual = control => { const box = control.closest('[data-usual]'); return box ? box.dataset.usual : ''; };
  function follow() {
    const query = new URLSearchParams(location.search);
    document.querySelectorAll('[id^="param-"]').forEach(control => {
      const value = query.get(control.id.slice(6)) ?? usual(control);
      if (control === document.activeElement || control.value === value) return;
      if (control.tagName === 'SELECT') { if ([...control.options].some(one => one.value === value)) control.value = value; } else dash_clientside.set_props(control.id, { value });
    });
  }
  document.addEventListener('change', event => {
    const id = event.target.id || '';
    if (id.startsWith('param-')) window.loadline.change(q => { const value = event.target.value.trim(); if (value && value !== usual(event.target)) q.set(id.slice(6), value); else q.delete(id.slice(6)); });
  });
  document.addEventListener('loadline:stamped', follow);

  function help() {
    const box = byId('help'); box.hidden = !box.hidden;
    if (!box.hidden) box.querySelector('button').focus(); else byId('main').focus({ preventScroll: true });
  }
  function grafana(expr, shell, shown, relative) {
    const range = relative ? { from: `now-${relative}`, to: 'now' } : { from: String(shown[0] * 1000), to: String(shown[1] * 1000) };
    const source = shell.datasource ? { datasource: { type: 'prometheus', uid: shell.datasource } } : {};
    const pane = { ...(shell.datasource ? { datasource: shell.datasource } : {}), queries: [{ refId: 'A', expr, ...source }], range };
    const address = `${shell.grafana}/explore?schemaVersion=1&panes=${encodeURIComponent(JSON.stringify({ a: pane }))}&orgId=1`;
    window.open(address, '_blank', 'noopener');
  }
  window.loadline.menus = { paint, absolute, help, grafana };
})();
