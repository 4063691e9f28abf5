"use strict";

// Building blocks of the page. Texts become text nodes, never markup: a report cannot inject anything.

// Taken from the page, which thus needs to spell out no address at all.
const SVG_NAMESPACE = document.getElementById("blank").namespaceURI;

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

function html(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG_NAMESPACE, name), attributes, children);
}

/** Text that only a screen reader says. */
function spoken(text) {
  return html("span", { class: "spoken" }, text);
}

/** A table; head: titles of the columns; rows: lists of cells (texts or nodes), the first of which names its row. */
function table(head, rows, attributes = {}) {
  const titles = head.map((title) => html("th", { scope: "col" }, title));
  const lines = rows.map(([name, ...cells]) =>
    html("tr", {}, html("th", { scope: "row" }, name), cells.map((cell) => html("td", {}, cell))));
  return html("table", attributes, html("thead", {}, html("tr", {}, titles)), html("tbody", {}, lines));
}

/** The numbers under a chart, folded away; built when they are first looked at. */
function numbers(title, build) {
  const details = html("details", { class: "numbers" }, html("summary", {}, title));
  details.addEventListener("toggle", () => {
    if (details.childElementCount === 1) {
      details.append(html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, build()));
    }
  });
  return details;
}

/**
 * A titled chart with its numbers below. draw(width) returns {picture, items, columns, nearest} (see inspect.js) and is
 * called again whenever the width changes, so that letters keep their size on every screen.
 */
function figure({ title, note, legend, label, draw, data, wide }) {
  const box = html("div", { class: "chart" });
  let drawn = 0;
  const redraw = () => {
    const width = Math.floor(box.clientWidth);
    if (width > 0 && width !== drawn) {
      drawn = width;
      const drawing = draw(width);
      fill(drawing.picture, { role: "img", "aria-label": label }, []);
      box.replaceChildren(drawing.picture);
      inspect(box, drawing);
    }
  };
  new ResizeObserver(redraw).observe(box);
  return html("figure", { class: wide ? "wide" : null },
    html("figcaption", {}, html("h3", {}, title), note ? html("p", {}, note) : null),
    legend ?? null, box, data ?? null);
}

/** The drawing area of a chart. */
function picture(width, height, ...children) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: "picture" }, ...children);
}
