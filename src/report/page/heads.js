// Charts with a value for each head.

/** A map of all heads: a row for each layer, a column for each head, small gaps between KV groups. */
function heatMap(width, { values, chosen, groupSize, text, format }) {
  const layers = values.length, heads = values[0].length;
  const left = 34, top = 22;
  const gap = heads * 10 < width ? 3 : 1;
  const gaps = (Math.ceil(heads / groupSize) - 1) * gap;
  const cell = Math.max(3, Math.min(46, Math.floor((width - left - gaps - 2) / heads)));
  const row = Math.max(Math.min(cell, 34), layers > 40 ? 9 : 12);
  const highest = Math.max(...values.flat().filter(known), 1e-9);
  const x = (head) => left + head * cell + Math.floor(head / groupSize) * gap;
  const y = (layer) => top + layer * row;
  const inset = cell >= 8 ? 1 : 0.25;
  const marks = [], outlines = [], items = [];
  const label = (attributes, content) => marks.push(svg("text", { class: "tick", ...attributes }, content));
  const every = (count, size, least) => Math.max(1, 2 ** Math.ceil(Math.log2(least / size)));
  for (let head = 0; head < heads; head += every(heads, cell, 18)) {
    label({ x: x(head) + cell / 2, y: top - 7, "text-anchor": "middle" }, `${head}`);
  }
  for (let layer = 0; layer < layers; layer += every(layers, row, 14)) {
    label({ x: left - 8, y: y(layer) + row / 2 + 4, "text-anchor": "end" }, `${layer}`);
  }
  for (let layer = 0; layer < layers; ++layer) {
    for (let head = 0; head < heads; ++head) {
      const value = values[layer][head];
      const strength = known(value) ? value / highest : 0;
      const size = { width: cell - 2 * inset, height: row - 2 * inset };
      const place = { x: x(head) + inset, y: y(layer) + inset, ...size };
      marks.push(svg("rect", { class: "heat base", ...place }),
        svg("rect", { class: "heat", ...place, "fill-opacity": strength.toFixed(3) }));
      if (cell >= 34) {
        marks.push(svg("text", { class: `value ${strength > 0.5 ? "on" : ""}`, x: x(head) + cell / 2,
          y: y(layer) + row / 2 + 4, "text-anchor": "middle" }, known(value) ? format(value) : ""));
      }
      if (chosen[layer].includes(head)) {
        outlines.push(svg("rect", { class: cell >= 8 ? "picked" : "picked thin", ...place }));
      }
      items.push({ x: x(head) + cell / 2, y: y(layer) + row / 2, width: cell, height: row, text: text(layer, head) });
    }
  }
  return { picture: picture(width, y(layers) + 4, marks, outlines), items, columns: heads };
}

/** What the shades of a heat map mean. */
function heatLegend(highest, outlined) {
  return html("ul", { class: "legend" },
    html("li", {}, "0", html("span", { class: "ramp", "aria-hidden": true }), highest),
    outlined ? html("li", {}, svg("svg", { width: 14, height: 14, "aria-hidden": true },
      svg("rect", { class: "picked", x: 1.5, y: 1.5, width: 11, height: 11 })), outlined) : null);
}

/**
 * One column for each head. heads: [{name, value, from, text}]: a bar from 0 to value, or where there is a `from` a
 * line from there to value with a marker at each end. lines: [{value, text}] across.
 */
function headColumns(width, { heads, lines = [], title, format }) {
  const height = width < 480 ? 240 : 280;
  const values = [...heads.flatMap((head) => [head.value, head.from]),
    ...lines.map((line) => line.value)].filter(known);
  const axes = frame(width, height, null, { scale: scale(values, "linear", { zero: true }), title, format });
  const { inner, toY } = axes;
  const column = (inner.right - inner.left) / heads.length;
  const marks = [...axes.marks], items = [];
  heads.forEach((head, index) => {
    const x = inner.left + (index + 0.5) * column;
    if (known(head.from)) {
      const r = Math.max(1.6, Math.min(4.5, column / 3));
      marks.push(svg("line", { class: "stem", x1: x, x2: x, y1: toY(head.from), y2: toY(head.value) }),
        shape({ shape: "diamond", colour: "grey" }, x, toY(head.from), 0.85 * r),
        shape({ shape: "circle", colour: "blue" }, x, toY(head.value), r));
    } else {
      const bar = Math.max(1, Math.min(26, 0.72 * column));
      marks.push(svg("rect", { class: "bar", x: x - bar / 2, width: bar, y: toY(head.value),
        height: Math.max(0, inner.bottom - toY(head.value)) }));
    }
    if (column >= 30) {
      marks.push(svg("text", { class: "tick", x, y: inner.bottom + 17, "text-anchor": "middle" }, head.name));
    }
    items.push({ x, y: toY(head.value), text: head.text });
  });
  for (const line of lines) {
    marks.push(svg("line", { class: "target", x1: inner.left, x2: inner.right, y1: toY(line.value),
      y2: toY(line.value) }),
      svg("text", { class: "remark", x: inner.right - 4, y: toY(line.value) - 5, "text-anchor": "end" }, line.text));
  }
  const places = column >= 30 ? "layer.head" : `${heads.length} retrieval heads, sorted`;
  marks.push(svg("text", { class: "title", x: (inner.left + inner.right) / 2, y: height - 6, "text-anchor": "middle" },
    places));
  return { picture: picture(width, height, marks), items, nearest: "x" };
}
