// Charts of lines and points.

// Every series has a shape of its own, so that colour alone never tells two apart.
const SHAPES = {
  circle: (x, y, r) => svg("circle", { cx: x, cy: y, r }),
  square: (x, y, r) => svg("rect", { x: x - 0.9 * r, y: y - 0.9 * r, width: 1.8 * r, height: 1.8 * r }),
  triangle: (x, y, r) => svg("path", { d: `M${x} ${y - 1.2 * r}L${x + 1.15 * r} ${y + 0.9 * r}H${x - 1.15 * r}Z` }),
  down: (x, y, r) => svg("path", { d: `M${x} ${y + 1.2 * r}L${x + 1.15 * r} ${y - 0.9 * r}H${x - 1.15 * r}Z` }),
  diamond: (x, y, r) =>
    svg("path", { d: `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}Z` }),
};

function shape(series, x, y, radius = 4) {
  return fill(SHAPES[series.shape](x, y, radius), { class: `mark ${series.colour} ${radius < 2.5 ? "tiny" : ""}` }, []);
}

function path(places) {
  return places.map(([x, y], index) => `${index === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** Shapes with names, above a chart. entries: [{name, colour, shape}], or line: "solid" | "dashed" instead of shape. */
function legend(entries) {
  const sample = (entry) => svg("svg", { width: 22, height: 12, "aria-hidden": true },
    svg("path", { class: `line ${entry.colour} ${entry.line === "dashed" ? "dashed" : ""}`, d: "M1 6H21" }),
    entry.shape ? shape(entry, 11, 6) : null);
  return html("ul", { class: "legend" }, entries.map((entry) => html("li", {}, sample(entry), entry.name)));
}

/** The points of which no other has both a smaller x and a smaller y, ascending in x. */
function frontier(points) {
  const sorted = [...points].sort((a, b) => a.x - b.x || a.y - b.y);
  let best = Infinity;
  return sorted.filter((point) => point.y < best && ((best = point.y), true));
}

/**
 * What is lost (y) against what is paid (x), both logarithmic. series: [{name, colour, shape, points: [{x, y, text}]}],
 * each with a line through its frontier; chosen: {x, y, series, text}, the point to mark; target: y of a line; limit:
 * {x, text} of an upright line, the most that could be paid.
 */
function costChart(width, { series, chosen, target, limit, x, y }) {
  const height = width < 480 ? 300 : 360;
  const all = series.flatMap((one) => one.points);
  const axes = frame(width, height,
    { ...x, scale: scale([...all.map((point) => point.x), chosen?.x, limit?.x], "log") },
    { ...y, scale: scale([...all.map((point) => point.y), chosen?.y, target > 0 ? target : null], "log") });
  const { inner, toX, toY } = axes;
  const marks = [...axes.marks], items = [];
  if (target > 0) {
    marks.push(svg("line", { class: "target", x1: inner.left, x2: inner.right, y1: toY(target), y2: toY(target) }),
      svg("text", { class: "remark", x: inner.right - 4, y: toY(target) - 5, "text-anchor": "end" },
        `target ${y.format(target)}`));
  }
  if (limit) {
    marks.push(svg("line", { class: "limit", x1: toX(limit.x), x2: toX(limit.x), y1: inner.top, y2: inner.bottom }),
      svg("text", { class: "remark", x: toX(limit.x) - 6, y: inner.top + 10, "text-anchor": "end" }, limit.text));
  }
  for (const one of series) {
    const best = new Set(frontier(one.points));
    marks.push(svg("path", { class: `line ${one.colour}`, d: path([...best].map((p) => [toX(p.x), toY(p.y)])) }));
    for (const point of one.points) {
      const mark = shape(one, toX(point.x), toY(point.y), best.has(point) ? 4.2 : 3);
      mark.classList.toggle("beaten", !best.has(point));
      marks.push(mark);
      items.push({ x: toX(point.x), y: toY(point.y), text: point.text });
    }
  }
  if (chosen) {
    const at = [toX(chosen.x), toY(chosen.y)];
    const left = at[0] > (inner.left + inner.right) / 2;
    marks.push(shape(chosen.series, at[0], at[1], 4.2), svg("circle", { class: "chosen", cx: at[0], cy: at[1], r: 9 }),
      svg("text", { class: "remark strong", x: at[0] + (left ? -13 : 13), y: at[1] + 16,
        "text-anchor": left ? "end" : "start" },
        "chosen"));
    items.push({ x: at[0], y: at[1], text: ["chosen", ...chosen.text] });
  }
  items.sort((a, b) => a.x - b.x);
  return { picture: picture(width, height, marks), items };
}

/** The mean of each value and its neighbours, `reach` to either side. */
function smoothed(values, reach) {
  return values.map((_, index) => {
    const near = values.slice(Math.max(0, index - reach), index + reach + 1);
    return near.reduce((sum, value) => sum + value, 0) / near.length;
  });
}

/** Values by step. series: [{name, colour, line, values: [one for each step]}]; long ones are smoothed, too, in bold. */
function stepChart(width, { steps, series, title }) {
  const height = width < 480 ? 220 : 240;
  const values = series.flatMap((one) => one.values);
  const axes = frame(width, height, { scale: scale(steps, "linear", { least: 1 }), title: "step", format: integer },
    { scale: scale(values, fittingKind(values), { zero: true }), title, format: decimal });
  const { toX, toY } = axes;
  const line = (one, ys, extra) => svg("path", {
    class: `line ${one.colour} ${one.line === "dashed" ? "dashed" : ""} ${extra}`,
    d: path(ys.map((value, index) => [toX(steps[index]), toY(value)])),
  });
  const long = steps.length > 60;
  const marks = series.flatMap((one) => long
    ? [line(one, one.values, "raw"), line(one, smoothed(one.values, Math.round(steps.length / 60)), "")]
    : [line(one, one.values, "")]);
  const items = steps.map((step, index) => ({
    x: toX(step), y: toY(series[0].values[index]),
    text: [`step ${integer(step)}`, ...series.map((one) => `${one.name}: ${decimal(one.values[index])}`)],
  }));
  return { picture: picture(width, height, axes.marks, marks), items, nearest: "x" };
}
