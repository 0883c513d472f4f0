"""A filter to draw: one gain for each of a few radial frequencies, as the browser's own range inputs.

Range inputs can be drawn with a mouse, a finger or the arrow keys, and screen readers know them. The value is the list of
gains; a front end shows MARKUP, STYLE and SCRIPT as a component and reads it back.
"""

__all__ = ["GAINS", "MARKUP", "SCRIPT", "STYLE"]

GAINS = 9
"""From the mean to the corner of the spectrum, sqrt(1/2) cycles per cell, evenly spaced."""

MARKUP = '<div class="equaliser"></div>'

STYLE = """
.equaliser { display: grid; grid-template-columns: repeat(9, minmax(0, 1fr)); gap: 4px; max-width: 520px; }
.equaliser label { display: grid; justify-items: center; gap: 4px; font-size: 11px; color: var(--soft);
    font-variant-numeric: tabular-nums; }
.equaliser input { writing-mode: vertical-lr; direction: rtl; height: 110px; width: 28px; margin: 0; cursor: pointer;
    accent-color: var(--color-accent); }
.equaliser input:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
.equaliser output { color: var(--body-text-color); }
"""

SCRIPT = r"""
const root = element.querySelector('.equaliser') || element;
const build = () => {
  root.replaceChildren();
  props.value.forEach((gain, i) => {
    const frequency = (i / (props.value.length - 1) * Math.SQRT1_2).toFixed(2);
    const label = document.createElement('label');
    const told = document.createElement('output');
    const range = document.createElement('input');
    Object.assign(range, { type: 'range', min: 0, max: 2, step: 0.1 });
    range.value = gain;
    range.setAttribute('aria-label', (props.label || '') + ' ' + frequency);
    told.textContent = Number(gain).toFixed(1);
    range.oninput = () => {
      told.textContent = Number(range.value).toFixed(1);
      props.value = [...root.querySelectorAll('input')].map((each) => Number(each.value));
    };
    label.append(told, range, frequency);
    root.append(label);
  });
};
build();
watch('value', () => { if (!root.querySelector('input')) build(); });
"""
