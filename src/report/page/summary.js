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

function accuracyCard({ dense, sparse }, selection) {
  if (sparse) {
    return card("Task accuracy", percent(sparse.accuracy),
      dense ? `dense ${percent(dense.accuracy)} (${points(sparse.accuracy - dense.accuracy)})` : null);
  }
  return selection?.chosen ? card("Accuracy, calibration rows", percent(selection.chosen.accuracy),
    `dense retrieval ${percent(selection.dense_accuracy)}`) : null;
}

function klCard({ sparse, paper }, selection) {
  const kl = sparse?.kl_plan ?? selection?.chosen?.kl;
  const target = selection?.kl_target ?? 0;
  return known(kl) ? card("KL to dense retrieval", decimal(kl),
    target > 0 ? targetState(kl <= target, target) : null,
    known(paper?.kl_plan) ? `paper's rule ${decimal(paper.kl_plan)}` : null) : null;
}

function tokensCard({ sparse, paper }, selection) {
  const tokens = sparse?.far_tokens ?? selection?.chosen?.far_tokens;
  return known(tokens) ? card("Far tokens a head reads", integer(tokens),
    known(selection?.far_available) && selection.far_available > 0
      ? `${share(tokens / selection.far_available)} of ${integer(selection.far_available)}` : null,
    known(paper?.far_tokens) ? `paper's rule ${integer(paper.far_tokens)}` : null) : null;
}

function cacheCard({ dense, sparse }, model) {
  return dense && sparse ? card("KV cache", share(cacheBytes(sparse) / cacheBytes(dense)),
    `${bytes(cacheBytes(sparse))} instead of ${bytes(cacheBytes(dense))}`,
    `at ${integer(model.context_length)} tokens, index included`) : null;
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

/** One sentence; null where nothing was validated. */
function verdict(report) {
  const { dense, plan, sparse } = report.validation?.variants ?? {};
  const reference = dense ?? plan;
  if (!sparse || !reference) {
    return null;
  }
  const parts = [html("strong", {}, `${percent(sparse.accuracy)} of the answer tokens are right after the conversion, `,
    `${percent(reference.accuracy)} before it`)];
  const available = report.selection?.far_available;
  if (known(sparse.far_tokens) && available > 0) {
    const read = share(sparse.far_tokens / available);
    parts.push(` – while a retrieval head reads ${read} of what lies beyond its window`);
  }
  if (dense) {
    parts.push(`, and the cache takes ${share(cacheBytes(sparse) / cacheBytes(dense))} of its former size`);
  }
  return html("p", { class: "verdict" }, parts, ".");
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
    accuracyCard(variants, report.selection), klCard(variants, report.selection),
    tokensCard(variants, report.selection),
    cacheCard(variants, report.model), speedCard(variants, report.validation?.speed), timeCard(report.stages, report.environment),
  ].filter((one) => one);
  return [verdict(report), cards.length > 0 ? html("dl", { class: "cards" }, cards) : null];
}
