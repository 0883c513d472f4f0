const root = element.querySelector('.thumbs') || element;
const thumbnail = (item, v) => {
  const button = document.createElement('button');
  button.type = 'button';
  button.setAttribute('aria-pressed', item.seed === v.chosen);
  const image = document.createElement('img');
  image.src = item.src; image.alt = item.alt; button.title = item.alt;
  button.append(image);
  if (item.caption) {
    const caption = document.createElement('span');
    caption.textContent = item.caption;
    caption.setAttribute('aria-hidden', 'true');
    button.append(caption);
  }
  button.onclick = () => trigger('click', { seed: item.seed });
  return button;
};
const show = () => {
  const v = props.value;
  root.replaceChildren();
  const heading = (text) => { const h = document.createElement('h2'); h.textContent = text; return h; };
  const row = document.createElement('div');
  [...v.real, ...v.items].forEach((item) => row.append(thumbnail(item, v)));
  row.style.gridTemplateColumns = `repeat(${v.real.length + v.items.length + 1}, 1fr)`;
  const another = document.createElement('button');
  another.type = 'button'; another.className = 'another'; another.textContent = v.another;
  const offered = [...v.items, ...v.real, ...v.hard].some((item) => item.seed === v.chosen);
  another.setAttribute('aria-pressed', v.chosen !== null && !offered);
  another.onclick = () => trigger('click', { seed: 100 + Math.floor(Math.random() * 900000) });
  row.append(another);
  const paragraph = (text) => { const p = document.createElement('p'); p.textContent = text; return p; };
  const hint = paragraph(v.hint);
  hint.className = 'hint';
  root.append(heading(v.real.length ? v.real_heading : v.heading), row, hint);
  if (v.real.length) {
    const about = document.createElement('details'), summary = document.createElement('summary');
    summary.textContent = v.real_about;
    about.append(summary, ...v.real.map((item) => paragraph(item.text)));
    root.append(about);
  }
  if (v.hard.length) {
    const details = document.createElement('details');
    const summary = document.createElement('summary');
    summary.textContent = v.hard_heading;
    const worst = document.createElement('div');
    v.hard.forEach((item) => worst.append(thumbnail(item, v)));
    details.open = v.hard.some((item) => item.seed === v.chosen);
    details.append(summary, worst, paragraph(v.hard_hint));
    root.append(details);
  }
};
watch('value', show);
show();
