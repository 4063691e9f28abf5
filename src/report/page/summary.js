// The top of the page: what somebody who decides whether to deploy wants to know first.

/** The whole run's time and its highest peak of memory, and what was predicted of both. */
function totals(stages) {
  const all = (key) => stages.map((stage) => stage[key]);
  const sum = (values) => (values.length > 0 && values.every(known) ? values.reduce((a, b) => a + b, 0) : undefined);
  const most = (values) => (values.some(known) ? Math.max(...values.filter(known)) : undefined);
  return {
    seconds: sum(all("seconds")), predictedSeconds: sum(all("predicted_seconds")),
    peak: most(all("peak_bytes")), predictedPeak: most(all("predicted_peak_bytes")),
  };
}

function cacheBytes(measurement) {
  return measurement.kv_bytes + measurement.index_bytes;
}

/** Whether a target was met, in words and with a sign. */
function targetState(met, target) {
  return html("span", { class: `state ${met ? "good" : "bad"}` }, met ? "✓ " : "✗ ",
    `target ${decimal(target)} ${met ? "met" : "missed"}`);
}

function card(title, value, ...remarks) {
  return html("div", { class: "card" }, html("dt", {}, title), html("dd", { class: "value" }, value),
    remarks.filter((remark) => remark).map((remark) => html("dd", {}, remark)));
}

/**
 * What validation says about the target that calibration went for; null where it was not asked. Prompts that are read by
 * tiles have a target of their own, and validation measures both losses together.
 */
function klOutcome({ validation, selection, prefill }) {
  const tiles = prefill?.mode === "tiles" ? prefill : null;
  const ofTiles = tiles?.chosen?.kl ?? 0;
  const validated = validation?.variants.sparse?.kl_plan;
  const calibrated = known(selection?.chosen?.kl) ? selection.chosen.kl + ofTiles : undefined;
  const target = selection?.kl_target > 0 ? selection.kl_target + (tiles?.kl_target ?? 0) : 0;
  if (!known(validated) || !known(calibrated) || !(target > 0) || (tiles && !known(tiles.kl_target))) {
    return null;
  }
  const apart = Math.max(validated, calibrated) > 2 * Math.min(validated, calibrated);
  return { validated, target, met: validated <= target, of: tiles ? "of selection and tiles" : null,
    warning: apart ? `calibration measured ${decimal(calibrated)} on ${plural(selection.samples, "sample")}` : null };
}

function accuracyCard({ variants, tasks }, selection) {
  const { dense, sparse } = variants;
  if (known(sparse?.accuracy)) {
    return card("Task accuracy", percent(sparse.accuracy),
      dense ? `dense ${percent(dense.accuracy)} (${points(sparse.accuracy - dense.accuracy)})` : null,
      `${plusMinus(meanError(tasks, "sparse"))} points of standard error`);
  }
  if (sparse) {
    return known(sparse.nll) ? card("NLL of running text", decimal(sparse.nll, 4),
      dense ? `dense ${decimal(dense.nll, 4)}` : null) : null;
  }
  return selection?.chosen ? card("Accuracy, calibration rows", percent(selection.chosen.accuracy),
    `dense retrieval ${percent(selection.dense_accuracy)}`) : null;
}

/** What deployment loses, and the part of it that calibration answers for. */
function klCards(report) {
  const { sparse, paper } = report.validation?.variants ?? {};
  const { selection } = report, outcome = klOutcome(report);
  const target = selection?.kl_target ?? 0, calibrated = selection?.chosen?.kl;
  if (!known(sparse?.kl_plan)) {
    return [known(calibrated) ? card("KL to dense retrieval, calibration rows", decimal(calibrated),
      target > 0 ? targetState(calibrated <= target, target) : null) : null];
  }
  const papers = (key) => (known(paper?.[key]) ? `paper's rule ${decimal(paper[key])}` : null);
  return [
    known(sparse.kl_dense) ? card("KL to the dense model", decimal(sparse.kl_dense), "nats a row: what deployment loses",
      papers("kl_dense")) : null,
    card("KL to dense retrieval", decimal(sparse.kl_plan), outcome ? targetState(outcome.met, outcome.target) : null,
      outcome?.of, outcome?.warning, papers("kl_plan")),
  ];
}

function tokensCard({ sparse, paper }, selection) {
  const tokens = sparse?.far_tokens ?? selection?.chosen?.far_tokens;
  const available = sparse ? sparse.far_available : selection?.far_available;
  return known(tokens) ? card("Far tokens a head reads", integer(tokens),
    available > 0 ? `${share(tokens / available)} of ${integer(available)}` : null,
    known(paper?.far_tokens) ? `paper's rule ${integer(paper.far_tokens)}` : null) : null;
}

function cacheCard({ dense, sparse }, model) {
  return dense && sparse ? card("KV cache", share(cacheBytes(sparse) / cacheBytes(dense)),
    `${bytes(cacheBytes(sparse))} instead of ${bytes(cacheBytes(dense))}`,
    `at ${integer(model.context_length)} tokens, index included, in an engine that drops what local heads no longer see`)
    : null;
}

/** How fast the converted model generates, beside the dense one. */
function speedCard({ dense, sparse }, speed) {
  const times = (key) => decimal(sparse[key] / dense[key], 2);
  return speed && known(dense?.decode_speed) && known(sparse?.decode_speed)
    ? card("Generation", `${times("decode_speed")}×`,
      `${integer(sparse.decode_speed)} tokens/s instead of ${integer(dense.decode_speed)}`,
      `prefill of ${integer(speed.prompt_tokens)} tokens: ${times("prefill_speed")}×`) : null;
}

function timeCard(stages, environment) {
  const total = totals(stages);
  return known(total.seconds) ? card("Conversion", duration(total.seconds),
    known(total.peak) ? `${bytes(total.peak)} peak memory` : null, `on ${environment.device}`) : null;
}

/** Before and after in one number: the accuracy where answers were asked for, or what running text or rows lose. */
function mainFinding(sparse, reference) {
  if (known(sparse.accuracy) && known(reference.accuracy)) {
    return `${percent(sparse.accuracy)} of the answer tokens are right after the conversion, ` +
      `${percent(reference.accuracy)} before it`;
  }
  const kl = known(sparse.kl_dense) ? `the KL from the dense model is ${decimal(sparse.kl_dense)} nats a row` : null;
  if (known(sparse.nll) && known(reference.nll)) {
    return `A token of running text costs ${decimal(sparse.nll, 4)} nats after the conversion, ` +
      `${decimal(reference.nll, 4)} before it${kl ? `; ${kl}` : ""}`;
  }
  return kl ? `T${kl.slice(1)}` : "The converted model was measured";
}

/** One sentence; null where nothing was validated. */
function verdict(report) {
  const { dense, plan, sparse } = report.validation?.variants ?? {};
  const reference = dense ?? plan;
  if (!sparse || !reference) {
    return null;
  }
  const parts = [html("strong", {}, mainFinding(sparse, reference))];
  const available = sparse.far_available;
  if (known(sparse.far_tokens) && available > 0) {
    const read = share(sparse.far_tokens / available);
    parts.push(` – while a retrieval head reads ${read} of what lies beyond its window`);
  }
  if (dense) {
    parts.push(`, and the cache could take ${share(cacheBytes(sparse) / cacheBytes(dense))} of its former size`);
  }
  const { samples, rows, tasks } = report.validation;
  const error = plusMinus(meanError(tasks, "sparse"));
  return html("p", { class: "verdict" }, parts, ". ", html("small", {},
    `Measured on ${plural(rows, "row")} of ${plural(samples, "sample")}`,
    tasks.length > 0 ? `; the standard error of the accuracy is ${error} points.` : "."));
}

function header({ model, environment, created }) {
  const facts = [
    model.family,
    `${plural(model.num_hidden_layers, "layer")} of ${plural(model.num_attention_heads, "query head")} and ` +
      `${model.num_key_value_heads} KV`,
    `${count(model.num_parameters)} parameters`,
    `${integer(model.context_length)} tokens of context`,
    `${environment.dtype} on ${environment.device}${environment.processes > 1 ? ` × ${environment.processes}` : ""}`,
    created.replace("T", " ").replace(/:\d\dZ$/, " UTC"),
  ];
  return html("header", {}, html("p", { class: "eyebrow" }, "RetroSparse conversion report"),
    html("h1", {}, model.name),
    html("ul", { class: "facts" }, facts.map((fact) => html("li", {}, fact))));
}

function summary(report) {
  const variants = report.validation?.variants ?? {};
  const cards = [
    accuracyCard(report.validation ?? { variants, tasks: [] }, report.selection), ...klCards(report),
    tokensCard(variants, report.selection),
    cacheCard(variants, report.model), speedCard(variants, report.validation?.speed),
    timeCard(report.stages, report.environment),
  ].filter((one) => one);
  return [verdict(report), cards.length > 0 ? html("dl", { class: "cards" }, cards) : null];
}
