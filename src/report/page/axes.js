// Scales and the frame of a chart.

const MARGIN = { left: 52, right: 14, top: 26, bottom: 44 };

function linearTicks(low, high, wanted, least = 0) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = Math.max(least, power * [1, 2, 5, 10].find((factor) => factor * power >= rough));
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i) {
    ticks.push(i * step + 0); // not -0
  }
  return ticks;
}

/** Decades, and 2 and 5 between them while there are few. */
function logTicks(low, high, wanted) {
  const between = (factors) => {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); ++power) {
      ticks.push(...factors.map((factor) => factor * 10 ** power));
    }
    return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
  };
  for (const factors of [[1, 2, 5], [1, 3]]) {
    const ticks = between(factors);
    if (ticks.length <= wanted) {
      return ticks;
    }
  }
  const decades = between([1]);
  const every = Math.ceil(decades.length / wanted);
  return decades.filter((_, index) => index % every === 0);
}

/**
 * A scale over all values, of which a logarithmic one keeps only those above 0 and puts the rest at its low end.
 * kind: "linear" or "log"; zero: the linear scale begins at 0; least: between two of its ticks.
 */
function scale(values, kind, { zero = false, least = 0 } = {}) {
  const usable = values.filter((value) => known(value) && (kind === "linear" || value > 0));
  let low = Math.min(...usable), high = Math.max(...usable);
  if (usable.length === 0) {
    [low, high] = [1, 10];
  }
  if (kind === "log") {
    const room = Math.max((high / low) ** 0.06, 1.15);
    [low, high] = [low / room, high * room];
  } else {
    low = zero ? Math.min(0, low) : low;
    high = high > low ? high + 0.04 * (high - low) : low + (Math.abs(low) || 1);
  }
  const along = kind === "log" ? (value) => Math.log(Math.max(value, low)) : (value) => value;
  return {
    ticks: (wanted) => (kind === "log" ? logTicks : linearTicks)(low, high, wanted, least),
    /** The place of a value in [0, 1]. */
    place: (value) => (along(value) - along(low)) / (along(high) - along(low)),
  };
}

/** Logarithmic where the values spread over more than a factor of 30. */
function fittingKind(values) {
  const positive = values.filter((value) => known(value) && value > 0);
  return positive.length === values.length && Math.max(...positive) > 30 * Math.min(...positive) ? "log" : "linear";
}

/** Axes, grid and titles; x and y: {scale, title, format}, x null where the chart labels its places itself. */
function frame(width, height, x, y) {
  const inner = { left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: height - MARGIN.bottom };
  const toX = (value) => inner.left + x.scale.place(value) * (inner.right - inner.left);
  const toY = (value) => inner.bottom - y.scale.place(value) * (inner.bottom - inner.top);
  const marks = [];
  for (const tick of y.scale.ticks(6)) {
    const at = toY(tick);
    marks.push(svg("line", { class: "grid", x1: inner.left, x2: inner.right, y1: at, y2: at }),
      svg("text", { class: "tick", x: inner.left - 8, y: at + 4, "text-anchor": "end" }, y.format(tick)));
  }
  for (const tick of x?.scale.ticks(width < 480 ? 5 : 8) ?? []) {
    const at = toX(tick);
    marks.push(svg("line", { class: "grid", x1: at, x2: at, y1: inner.top, y2: inner.bottom }),
      svg("text", { class: "tick", x: at, y: inner.bottom + 17, "text-anchor": "middle" }, x.format(tick)));
  }
  marks.push(svg("text", { class: "title", x: 0, y: 11 }, y.title),
    svg("line", { class: "axis", x1: inner.left, x2: inner.right, y1: inner.bottom, y2: inner.bottom }));
  if (x) {
    marks.push(svg("text", { class: "title", x: (inner.left + inner.right) / 2, y: height - 6,
      "text-anchor": "middle" },
      x.title));
  }
  return { inner, toX, toY, marks };
}
