"""Whether the text of a page can be read: its place, its size, and its colours."""

from __future__ import annotations

# Every piece of text that is drawn: its place, the size of its letters in CSS pixels, and its colours.
TEXTS = """(() => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  const colour = text => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  while (walk.nextNode()) {
    const node = walk.currentNode, element = node.parentElement, range = document.createRange();
    range.selectNodeContents(node);
    if (!node.textContent.trim()) continue;
    if (!element.checkVisibility({opacityProperty: true, visibilityProperty: true})) continue;
    const style = getComputedStyle(element), svg = element.ownerSVGElement, cut = [];
    let paper = element, scrolls = false;
    for (let box = element; box; box = box.parentElement) {
      const overflow = getComputedStyle(box).overflowX;
      scrolls ||= box.matches(".scroll");
      if (overflow !== "visible" && !box.matches(".scroll, svg *")) cut.push(box.getBoundingClientRect());
    }
    while (paper.parentElement && colour(getComputedStyle(paper).backgroundColor)[3] === 0) paper = paper.parentElement;
    for (const place of svg ? [element.getBoundingClientRect()] : range.getClientRects()) {
      if (place.width === 0) continue;
      const {left, right, top, bottom} = place;
      found.push({
        text: node.textContent.trim(), left, right, top, bottom, scrolls,
        size: parseFloat(style.fontSize) * (svg ? element.getScreenCTM().a : 1),
        inside: cut.every(box => left > box.left - 1 && right < box.right + 1 && top > box.top - 1
                                 && bottom < box.bottom + 1),
        group: [...document.querySelectorAll("svg, .plot")].findIndex(box => box.contains(element)),
        ink: colour(svg ? style.fill : style.color), paper: colour(getComputedStyle(paper).backgroundColor),
      });
    }
  }
  return found;
})()"""


def luminance(colour: list[float]) -> float:
    linear = [(c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: list[float], other: list[float]) -> float:
    """As in the Web Content Accessibility Guidelines, from 1 to 21; 4.5 is what they ask for."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
