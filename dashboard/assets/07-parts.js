/* What the server names and this builds: parts of many elements, of which Dash would watch each. */
(function () {
  'use strict';
  const h = (...of) => window.React.createElement(...of);
  window.loadline_parts = {
    /* the table under a chart; rows of [key, name, swatch, last, max] */
    Legend({ rows }) {
      const words = window.loadline.words, title = (text, key) => h('th', { scope: 'col', key }, text);
      const head = h('tr', null, title(h('span', { className: 'vh' }, words('series')), 0), title(words('last'), 1), title(words('max'), 2));
      const body = rows.map(([key, name, swatch, last, max]) => h('tr', { key, 'data-series': key },
        h('th', { scope: 'row' }, h('i', { style: swatch }), h('span', null, name)), h('td', null, last), h('td', null, max)));
      return h('table', { className: 'lg' }, h('thead', null, head), h('tbody', null, body));
    },
    /* PromQL, one row each; the buttons beside it are put there when the menu opens */
    Queries({ texts }) {
      return texts.map(text => h('div', { className: 'm-q', key: text }, h('code', null, text)));
    },
  };
})();
