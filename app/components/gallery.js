const root = element.querySelector('.gallery') || element;
const show = () => {
  root.replaceChildren();
  const v = props.value;
  if (!v || !v.items) return;
  root.setAttribute('aria-label', v.label);
  v.items.forEach((item, index) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.setAttribute('aria-pressed', index === v.chosen);
    const image = document.createElement('img');
    image.src = item.src; image.alt = item.alt;
    const caption = document.createElement('span');
    caption.textContent = item.caption;
    button.append(image, caption);
    button.onclick = () => trigger('click', { index });
    root.append(button);
  });
};
watch('value', show);
show();
