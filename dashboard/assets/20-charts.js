/* What charts do together: one crosshair on all, drag to zoom all, legend hover, and any chart as a table. */
(function () {
  'use strict';
  const words = window.loadline.words;
  const plots = () => document.querySelectorAll('.js-plotly-plot');
  const hairs = new WeakMap();

  function hair(plot) {
    let line = hairs.get(plot);
    if (!line || !line.isConnected) { line = document.createElement('div'); line.className = 'xh'; plot.appendChild(line); hairs.set(plot, line); }
    return line;
  }
  function cross(event) {
    const point = event.points[0], x = +point.xaxis.d2c(point.x);
    plots().forEach(plot => {
      const layout = plot._fullLayout, axis = layout && layout.xaxis; if (!axis || axis.type !== 'date') return;
      const line = hair(plot), at = axis.c2p(x);
      if (at < 0 || at > axis._length) { line.style.opacity = 0; return; }
      line.style.cssText = `opacity:1;left:${axis._offset + at}px;top:${layout._size.t}px;height:${layout._size.h}px`;
    });
  }
  function uncross() { document.querySelectorAll('.xh').forEach(line => { line.style.opacity = 0; }); }
  function unix(text) { const [day, time = '00:00'] = String(text).split(' '); return new Date(`${day}T${time}`).getTime() / 1000; }  /* local, as Plotly writes it */
  function zoomed(event) {
    const from = event['xaxis.range[0]'], to = event['xaxis.range[1]'];
    if (from !== undefined && to !== undefined) window.loadline.setFixed(unix(from), unix(to));
  }
  /* a point of a latency chart leads to the requests of its moment and pool */
  function toRequests(event) {
    const request = event.points.find(one => /^[0-9a-f]{32}$/.test(one.customdata || '') && near(one, event.event));
    if (request) { toTrace(request.customdata); return; }
    const point = event.points.find(one => !one.customdata), plot = event.event.target.closest('.js-plotly-plot'), meta = plot && plot.layout.meta;
    const link = document.querySelector('.side a[data-key=r]'); if (!point || !meta || !link) return;
    const at = unix(point.x), half = Math.max(30, (point.data.dx || 0) / 1000), query = new URLSearchParams();
    query.set('from', Math.round(at - half)); query.set('to', Math.round(at + half)); query.append('pool', meta.pool || point.data.name);
    window.loadline.go(link.dataset.path, query);
  }
  function near(point, click) {  /* of all points at this moment, the one that was meant */
    const box = click.target.closest('.js-plotly-plot').getBoundingClientRect(), x = point.xaxis, y = point.yaxis;
    return Math.abs(x._offset + x.d2p(point.x) - (click.clientX - box.left)) < 14 && Math.abs(y._offset + y.d2p(point.y) - (click.clientY - box.top)) < 14;
  }
  function toTrace(id) {
    const link = document.querySelector('.side a[data-key=r]'); if (!link) return;
    const query = location.pathname === link.dataset.path ? new URLSearchParams(location.search) : window.loadline.kept();
    query.set('trace', id); window.loadline.go(link.dataset.path, query);
  }
  function bindOne(plot) {
    if (plot.__loadline || !plot.on) return;
    plot.__loadline = true;
    plot.on('plotly_hover', cross); plot.on('plotly_unhover', uncross); plot.on('plotly_relayout', zoomed);
    plot.on('plotly_click', toRequests);
    plot.on('plotly_doubleclick', () => { if (window.loadline.fixed()) window.loadline.live(); });
    plot.on('plotly_afterplot', () => { const panel = plot.closest('.panel.as-table'); if (panel) fill(panel, plot); });
  }
  let queued = false;
  function bind() { if (!queued) { queued = true; requestAnimationFrame(() => { queued = false; plots().forEach(bindOne); }); } }
  new MutationObserver(bind).observe(document.documentElement, { childList: true, subtree: true });

  /* legend hover: the same series stands out on every chart */
  function emphasise(name) {
    plots().forEach(plot => {
      const data = (plot._fullData || []).filter(trace => trace.type === 'scatter' && trace.visible === true);
      const known = name && data.some(trace => trace.name === name);
      plot.querySelectorAll('.scatterlayer .trace').forEach((node, i) => { const trace = data[i]; node.style.opacity = known && trace && trace.name !== name ? 0.18 : ''; });
    });
  }
  document.addEventListener('mouseover', event => { const row = event.target.closest && event.target.closest('tr[data-series]'); if (row) emphasise(row.dataset.series); });
  document.addEventListener('mouseout', event => { if (event.target.closest && event.target.closest('tr[data-series]')) emphasise(null); });

  /* view as table */
  function cell(row, tag, text) { const c = document.createElement(tag); c.textContent = text; if (tag === 'th') c.scope = 'col'; row.append(c); }
  function moment(ms) { const d = new Date(ms), pad = n => String(n).padStart(2, '0'); return `${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`; }
  function write(value) { return value === null || value === undefined ? '–' : String(+(+value).toPrecision(4)); }
  function columns(plot) {
    const out = [], suffix = ((plot.layout.yaxis || {}).ticksuffix || '').trim(), unit = suffix ? `, ${suffix}` : '';
    for (const trace of plot.data || []) {
      if (trace.type === 'heatmap') (trace.z || []).forEach((row, i) => out.push({ name: (trace.meta || [])[i] || words('bucket {n}', { n: i + 1 }), x0: trace.x0, dx: trace.dx, y: row }));
      else if (trace.name && trace.dx) out.push({ name: trace.name + unit, x0: trace.x0, dx: trace.dx, y: trace.y || [] });
    }
    return out.sort((a, b) => plot.data[0].type === 'heatmap' ? 0 : a.name < b.name ? -1 : 1);
  }
  function fill(panel, plot) {
    const box = panel.querySelector('.p-t'), series = columns(plot), table = document.createElement('table'), head = document.createElement('tr');
    cell(head, 'th', words('time')); series.forEach(one => cell(head, 'th', one.name)); table.append(head);
    const first = series[0], length = first ? first.y.length : 0;
    for (let i = length - 1; i >= 0; i--) {
      const row = document.createElement('tr');
      cell(row, 'td', moment(first.x0 + i * first.dx));
      series.forEach(one => cell(row, 'td', write(one.y[i])));
      table.append(row);
    }
    box.replaceChildren(table);
  }
  function table(panel, button) {
    const on = panel.classList.toggle('as-table'), plot = panel.querySelector('.js-plotly-plot');
    button.lastChild.textContent = on ? words('View as chart') : words('View as table');
    if (on && plot) fill(panel, plot); else panel.querySelector('.p-t').replaceChildren();
    panel.querySelector('details').open = false;
  }
  /* the same as a file: moments in UTC, values as they were drawn */
  function csv(panel) {
    const plot = panel.querySelector('.js-plotly-plot'), series = plot ? columns(plot) : [], first = series[0]; if (!first) return;
    const field = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const rows = [['time', ...series.map(one => one.name)].map(field)];
    for (let i = 0; i < first.y.length; i++) rows.push([new Date(first.x0 + i * first.dx).toISOString(), ...series.map(one => one.y[i] ?? '')]);
    const address = URL.createObjectURL(new Blob([rows.map(row => row.join(',')).join('\n') + '\n'], { type: 'text/csv' }));
    Object.assign(document.createElement('a'), { href: address, download: `${panel.getAttribute('aria-label')}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
  window.loadline.charts = { bind, table, csv };
})();
