// The comparison of the models.

const VARIANTS = [
  { key: "dense", name: "dense", about: "the model as it came" },
  { key: "plan", name: "plan", about: "local heads windowed, retrieval heads dense" },
  { key: "sparse", name: "sparse", about: "the converted model" },
  { key: "paper", name: "paper's rule", about: "the converted model with top-p over all keys (arXiv 2605.16928)" },
];

/**
 * What distinguishes the best cells of a row: nothing where all are equally good or only one is there. errors: standard
 * errors of the values, within one of which two are equally good.
 */
function bestOf(values, shown, better, errors) {
  const there = values.filter(known);
  const best = better(...there), place = values.indexOf(best);
  const close = (value, index) =>
    Math.abs(value - best) <= Math.max(errors[index] ?? 0, errors[place] ?? 0) || shown(value) === shown(best);
  const isBest = values.map((value, index) => known(value) && close(value, index));
  return isBest.filter((one) => one).length === there.length ? values.map(() => false) : isBest;
}

function cell(text, best) {
  return html("td", { class: best ? "best" : null },
    best ? html("span", { class: "badge", "aria-hidden": true }, "●") : null,
    text, best ? spoken(" (best)") : null);
}

function comparisonRow(name, values, shown, better, remarks = [], errors = []) {
  const best = better ? bestOf(values, shown, better, errors) : values.map(() => false);
  const error = (index) => (known(values[index]) && known(errors[index])
    ? html("small", {}, plusMinus(errors[index])) : null);
  return html("tr", {}, html("th", { scope: "row" }, name),
    values.map((value, index) => cell([shown(value), error(index), remarks[index]], best[index])));
}

/** What picking cost in a task: nothing to say about the models that do not pick. */
function pickingRemark(task, key) {
  const { [key]: kl } = task.kl_plan, { [key]: tokens } = task.far_tokens;
  return known(kl) && known(tokens)
    ? [html("small", {}, `KL ${decimal(kl)}`), html("small", {}, plural(Math.round(tokens), "token"))] : null;
}

/** The speed without our kernels, where there are some. */
function kernelRemarks(shownVariants, without) {
  return shownVariants.map(({ key }) => (key === "sparse" && known(without)
    ? html("small", {}, `${integer(without)} without kernels`) : null));
}

/** Tasks and totals by model; the best of each row is marked. */
function comparisonTable({ variants, tasks, speed }, model) {
  const shownVariants = VARIANTS.filter(({ key }) => variants[key] || tasks.some((task) => known(task.accuracy[key])));
  const taskName = (task) => [html("code", {}, task.task),
    html("small", {}, `${plural(task.samples, "sample")}, ${plural(task.rows, "row")}, ${count(task.length)} tokens`)];
  const taskRows = tasks.map((task) => comparisonRow(taskName(task),
    shownVariants.map(({ key }) => task.accuracy[key]), percent, Math.max,
    shownVariants.map(({ key }) => pickingRemark(task, key)),
    shownVariants.map(({ key }) => standardError(task.accuracy[key], task.rows))));
  const total = (name, remark, field, shown, better, remarks, errors) => {
    const values = shownVariants.map(({ key }) => (variants[key] ? field(variants[key]) : undefined));
    return values.some(known) ? comparisonRow([name, html("small", {}, remark)], values, shown, better, remarks, errors)
      : null;
  };
  const timed = speed ? `tokens a second, ${plural(speed.runs, "run")}` : "";
  const totalRows = [
    total("Mean accuracy", "over the tasks", (one) => one.accuracy, percent, Math.max, [],
      shownVariants.map(({ key }) => meanError(tasks, key))),
    total("NLL", "nats a token of running text", (one) => one.nll, (value) => decimal(value, 4), Math.min),
    total("KL from dense", "nats a row", (one) => one.kl_dense, decimal),
    total("KL from plan", "nats a row", (one) => one.kl_plan, decimal),
    total("Far tokens", "a retrieval head and row", (one) => one.far_tokens, integer, null,
      shownVariants.map(({ key }) => (known(variants[key]?.far_available)
        ? html("small", {}, `of ${integer(variants[key].far_available)}`) : null))),
    total("KV cache", `at ${integer(model.context_length)} tokens, where local heads' is dropped`, (one) => one.kv_bytes, bytes),
    total("Index keys", "beside the cache", (one) => one.index_bytes, bytes),
    total("Prefill", timed, (one) => one.prefill_speed, integer, Math.max,
      kernelRemarks(shownVariants, speed?.prefill_without_kernels)),
    total("Decode", timed, (one) => one.decode_speed, integer, Math.max,
      kernelRemarks(shownVariants, speed?.decode_without_kernels)),
  ];
  const heads = shownVariants.map(({ name, about }) => html("th", { scope: "col", title: about }, name));
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Comparison of the models" },
    html("table", { class: "comparison", style: `--variants: ${shownVariants.length}` },
      html("thead", {}, html("tr", {}, html("th", { scope: "col" }, tasks.length > 0 ? "Accuracy by task" : "Measure"), heads)),
      html("tbody", {}, taskRows), html("tbody", { class: "totals" }, totalRows)));
}

function variantLegend() {
  return html("dl", { class: "glossary" }, VARIANTS.map(({ name, about }) =>
    html("div", {}, html("dt", {}, name), html("dd", {}, about))));
}

/** The recipe as "section.key" and value, the way `--set` takes them. */
function flattened(value, prefix = "") {
  const nested = value !== null && typeof value === "object" && !Array.isArray(value);
  if (!nested || Object.keys(value).length === 0) {
    return prefix === "" ? [] : [[prefix, value]];
  }
  return Object.entries(value).flatMap(([key, inner]) => flattened(inner, prefix === "" ? key : `${prefix}.${key}`));
}

function settingValue(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** What was measured, and by how much it is off the prediction. */
function besidePrediction(value, predicted, format) {
  if (!known(value) || !known(predicted) || predicted <= 0) {
    return format(value);
  }
  const off = Math.round(100 * (value / predicted - 1));
  return [format(value), html("small", {}, `${off < 0 ? "−" : "+"}${Math.abs(off)} % of predicted`)];
}

function stageTable(stages) {
  const total = totals(stages);
  const longest = Math.max(...stages.map((stage) => stage.seconds), 1e-9);
  const time = (stage) => html("span", { class: "timed" },
    html("span", { class: "length", "aria-hidden": true, style: `--part: ${stage.seconds / longest}` }),
    duration(stage.seconds));
  const rows = stages.map((stage) => [
    stage.name, time(stage), duration(stage.predicted_seconds),
    besidePrediction(stage.peak_bytes, stage.predicted_peak_bytes, bytes),
    bytes(stage.predicted_peak_bytes),
  ]);
  rows.push(["all", duration(total.seconds), duration(total.predictedSeconds),
    besidePrediction(total.peak, total.predictedPeak, bytes), bytes(total.predictedPeak)]);
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Time and memory of each stage" },
    table(["Stage", "Time", "Predicted", "Peak memory", "Predicted"], rows, { class: "stages" }));
}
