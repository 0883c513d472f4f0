const root = element.querySelector('.tasks') || element;
let shape = '', applied = '';
const show = () => {
  const v = props.value;
  const next = JSON.stringify([v.legend, v.tiles]);
  if (next !== shape) {
    shape = next;
    root.replaceChildren();
    make('legend', root, '', v.legend);
    const grid = make('div', root, 'grid');
    v.tiles.forEach((tile) => {
      const box = make('div', grid, 'tile');
      const cover = make('label', box, 'cover');
      const image = make('img', cover);
      image.src = tile.src; image.alt = '';
      make('span', cover, '', tile.label);
      const row = make('div', box, 'versions');
      tile.versions.forEach((version, i) => {
        const label = make('label', row);
        const input = make('input', label);
        Object.assign(input, { type: 'radio', name: 'checkpoint', value: version.name, id: 'checkpoint-' + version.name });
        input.setAttribute('aria-label', tile.label + ', ' + version.label);
        input.onchange = () => trigger('click', { name: version.name });
        make('span', label, '', version.label);
        label.title = version.name;
        if (i === 0) cover.htmlFor = input.id;
      });
    });
  }
  if (applied !== next + v.chosen) {  // drawn again with the same value, a choice that is under way stays
    applied = next + v.chosen;
    root.querySelectorAll('input').forEach((input) => { input.checked = input.value === v.chosen; });
  }
  root.querySelectorAll('.tile').forEach((tile) => { tile.classList.toggle('chosen', !!tile.querySelector('input:checked')); });
  const grid = root.querySelector('.grid'), chosen = root.querySelector('.tile.chosen');
  const more = () => root.classList.toggle('more', grid.scrollLeft + grid.clientWidth < grid.scrollWidth - 4);
  grid.onscroll = more;
  requestAnimationFrame(more);
  if (chosen) {  // on a phone, the tiles scroll sideways
    const [inner, outer] = [chosen, grid].map((e) => e.getBoundingClientRect());
    grid.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
  }
};
watch('value', show);
show();
