/* Buttons that ask the server to do something: POSTs of JSON below do/, with the CSRF cookie in a header.
 *
 * data-post="NAME"     POST do/NAME with the fields of the nearest [data-form], data-body's, and the address
 * data-auto="NAME"     the same, by itself, once for each address: what an address asks for is computed when it is opened
 * data-fill="ID"       put data-text into a field and go there
 * data-upload="NAME"   choose a file and send it as it is
 */
(function () {
  'use strict';
  const words = window.loadline.words, refused = status => words('the server answers {status}', { status });
  const byId = id => document.getElementById(id);
  const token = () => (/(?:^|; )_csrf_token=([^;]*)/.exec(document.cookie) || [])[1] || '';
  const address = name => `${byId('shell').dataset.prefix}do/${name}`;
  let auto = null;

  function why(button, text) {
    const form = button && button.closest('[data-form]'), box = form && form.querySelector('.act-why');
    if (box) box.textContent = text; else if (text) window.loadline.say(text);
  }
  function fields(button) {
    const body = { search: location.search, ...JSON.parse(button.dataset.body || '{}') }, form = button.closest('[data-form]');
    if (form) form.querySelectorAll('input[name], select[name], textarea[name]').forEach(field => { body[field.name] = field.value; });
    return body;
  }
  async function send(name, body) {
    const answer = await fetch(address(name), { method: 'POST', credentials: 'same-origin', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json', 'X-CSRFToken': token() } });
    const told = await answer.json().catch(() => ({ error: '' }));
    if (!answer.ok) throw new Error(told.error || refused(answer.status));
    return told;
  }
  function settle(button, told) {
    why(button, '');
    if (told.said) window.loadline.say(told.said);
    if (told.search !== undefined) window.loadline.go(location.pathname, new URLSearchParams(told.search)); else window.loadline.refresh();
  }
  async function post(button) {
    button.disabled = true; why(button, '');
    try { settle(button, await send(button.dataset.post, fields(button))); } catch (error) { why(button, error.message); }
    button.disabled = false;
  }
  async function follow() {
    const wish = document.querySelector('[data-auto]');
    if (!wish || auto === location.href) return;
    auto = location.href;
    try { await send(wish.dataset.auto, { search: location.search }); window.loadline.refresh(); } catch (error) { window.loadline.say(error.message); }
  }
  function upload(button) {
    const chooser = Object.assign(document.createElement('input'), { type: 'file' });
    chooser.addEventListener('change', () => {
      const file = chooser.files[0]; if (!file) return;
      const asked = new XMLHttpRequest(), text = button.lastChild.textContent;
      const done = () => { button.disabled = false; button.lastChild.textContent = text; };
      asked.open('POST', `${address(button.dataset.upload)}?name=${encodeURIComponent(file.name)}`);
      asked.setRequestHeader('X-CSRFToken', token()); asked.setRequestHeader('Content-Type', 'application/octet-stream');
      asked.upload.onprogress = event => { if (event.lengthComputable) button.lastChild.textContent = `${Math.floor(event.loaded / event.total * 100)} %`; };
      asked.onload = () => {
        done(); let told = {}; try { told = JSON.parse(asked.responseText); } catch (error) { /* not ours: the status says it */ }
        if (asked.status === 200) settle(button, told); else why(button, told.error || refused(asked.status));
      };
      asked.onerror = () => { done(); why(button, words('The upload broke off.')); };
      button.disabled = true; asked.send(file);
    });
    chooser.click();
  }
  document.addEventListener('click', event => {
    const near = name => event.target.closest(`[data-${name}]`);
    const button = near('post'), file = near('upload'), filler = near('fill');
    if (button) post(button);
    if (file) upload(file);
    if (filler) { dash_clientside.set_props(filler.dataset.fill, { value: filler.dataset.text }); const field = byId(filler.dataset.fill); field.scrollIntoView({ block: 'center' }); field.focus(); }
  });
  document.addEventListener('keydown', event => {
    if (event.key !== 'Enter' || event.target.tagName !== 'INPUT') return;
    const form = event.target.closest('[data-form]'), button = form && form.querySelector('[data-post]');
    if (button) setTimeout(() => post(button));
  });
  function outputs() { document.querySelectorAll('label output').forEach(shown => { const range = shown.closest('label').querySelector('input[type=range]'); if (range) shown.textContent = range.value; }); }
  document.addEventListener('input', event => { if (event.target.type === 'range') outputs(); });
  document.addEventListener('loadline:stamped', () => {
    follow();
    setTimeout(outputs, 150);  /* after the address's values have been put into the sliders */
  });
})();
