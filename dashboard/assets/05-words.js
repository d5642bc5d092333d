/* What scripts say, in the language of the page: the document holds the words of every language but English. */
(function () {
  'use strict';
  const held = document.getElementById('words'), texts = held ? JSON.parse(held.textContent) : {};
  const words = (text, parts = {}) => (texts[text] || text).replace(/\{(\w+)\}/g, (whole, name) => name in parts ? parts[name] : whole);
  window.loadline = { words };
})();
