/* The Explore page: the field follows the address, Enter runs, names are completed, the last queries are kept here. */
(function () {
  'use strict';
  const KEY = 'loadline-explore', MOST = 12;
  const byId = id => document.getElementById(id);
  let names = null, shownFor = null;

  const recent = () => { try { return JSON.parse(localStorage.getItem(KEY) || '[]'); } catch (e) { return []; } };
  function remember(expr) { try { localStorage.setItem(KEY, JSON.stringify([expr, ...recent().filter(one => one !== expr)].slice(0, MOST))); } catch (e) { /* private window: not kept */ } }
  function run(expr) {
    if (!expr.trim()) return;
    remember(expr.trim());
    window.loadline.change(q => q.set('expr', expr.trim()));
  }
  function sync() {
    const field = byId('ex-expr'); if (!field) { shownFor = null; return; }
    const expr = new URLSearchParams(location.search).get('expr') || '';
    if (shownFor !== expr) { shownFor = expr; if (expr) remember(expr); dash_clientside.set_props('ex-expr', { value: expr }); list(); }
    if (names === null) {
      names = [];
      fetch(`${byId('shell').dataset.prefix}data/names`).then(answer => answer.ok ? answer.json() : []).then(found => { names = found; });
    }
  }
  function list() {
    const box = byId('ex-recent'), all = recent(); if (!box) return;
    box.replaceChildren(...all.map(expr => { const b = document.createElement('button'); b.type = 'button'; b.className = 'ex-q'; b.textContent = expr; b.title = expr; b.addEventListener('click', () => run(expr)); return b; }));
  }
  /* a datalist matches whole values: each option is the query with the name at the cursor completed */
  function complete(field) {
    const at = field.selectionStart, head = field.value.slice(0, at), word = /[a-zA-Z_:][a-zA-Z0-9_:]*$/.exec(head), options = byId('ex-names');
    if (!word || word[0].length < 2) { options.replaceChildren(); return; }
    const before = head.slice(0, word.index), after = field.value.slice(at), low = word[0].toLowerCase();
    const fit = names.filter(name => name.toLowerCase().includes(low)).sort((a, b) => a.toLowerCase().indexOf(low) - b.toLowerCase().indexOf(low) || a.length - b.length);
    options.replaceChildren(...fit.slice(0, 20).map(name => { const option = document.createElement('option'); option.value = before + name + after; option.label = name; return option; }));
  }
  document.addEventListener('input', event => { if (event.target.id === 'ex-expr' && names) complete(event.target); });
  document.addEventListener('keydown', event => { if (event.key === 'Enter' && event.target.id === 'ex-expr') run(event.target.value); });
  document.addEventListener('click', event => {
    const button = event.target.closest('[data-act=run]'); if (button) run(byId('ex-expr').value);
    if (event.target.closest('[data-act=copyexpr]')) window.loadline.copy(byId('ex-expr').value, 'Query copied');
  });
  document.addEventListener('loadline:stamped', sync);
})();
