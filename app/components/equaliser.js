const root = element.querySelector('.equaliser') || element;
const build = () => {
  root.replaceChildren();
  props.value.forEach((gain, i) => {
    const frequency = (i / (props.value.length - 1) * Math.SQRT1_2).toFixed(2);
    const label = document.createElement('label');
    const output = document.createElement('output');
    const range = document.createElement('input');
    Object.assign(range, { type: 'range', min: 0, max: 2, step: 0.1 });
    range.value = gain;
    range.setAttribute('aria-label', (props.label || '') + ' ' + frequency);
    output.textContent = Number(gain).toFixed(1);
    range.oninput = () => {
      output.textContent = Number(range.value).toFixed(1);
      props.value = [...root.querySelectorAll('input')].map((each) => Number(each.value));
    };
    label.append(output, range, frequency);
    root.append(label);
  });
};
build();
watch('value', () => {
  const ranges = [...root.querySelectorAll('input')];
  if (ranges.length !== props.value.length) return build();
  ranges.forEach((range, i) => {
    if (Number(range.value) === props.value[i]) return;
    range.value = props.value[i];
    range.previousElementSibling.textContent = Number(range.value).toFixed(1);
  });
});
