// The sections about heads, selection and prefill, in the words of the method.

function profileSection({ model, profile }) {
  const { mean, spread, retrieval_heads: chosen } = profile;
  const picked = chosen.flatMap((heads, layer) => heads.map((head) => ({ layer, head })));
  const total = model.num_hidden_layers * model.num_attention_heads;
  const highest = Math.max(...mean.flat().filter(known), 0);
  const ranked = mean.flatMap((row, layer) => row.map((score, head) => ({ layer, head, score })))
    .sort((a, b) => b.score - a.score);
  const score = ({ layer, head }) => `${fixed(mean[layer][head])} ± ${fixed(spread[layer][head])}`;
  const isPicked = ({ layer, head }) => chosen[layer].includes(head);
  const wide = model.num_attention_heads > 16;
  const least = Math.min(...picked.map(({ layer, head }) => mean[layer][head]));
  const next = ranked.find((one) => !isPicked(one));
  return [html("p", {}, `${picked.length} of ${plural(total, "query head")} (${share(picked.length / total)}) keep the whole `,
    `context: ${profile.policy === "kv_group" ? "whole KV groups by their best head" : "the best heads by themselves"}. `,
    `The others see ${plural(profile.sink_tokens, "first token")} and a window of ${integer(profile.window)}.`),
  html("div", { class: "figures" }, figure({
    title: "Retrieval score of each head",
    note: `Share of the attention that a repeated needle pays to its first copy; mean of ${plural(profile.documents, "document")}.`,
    label: `Retrieval scores by layer and head. Highest: ${ranked.slice(0, 3).map((one) =>
      `${headName(one.layer, one.head)} with ${decimal(one.score, 2)}`).join(", ")}`,
    legend: heatLegend(decimal(highest, 2), "retrieval head"),
    wide,
    draw: (width) => heatMap(width, {
      values: mean, chosen, groupSize: model.num_attention_heads / model.num_key_value_heads,
      format: (value) => value.toFixed(2).replace(/^0/, ""),
      text: (layer, head) => [`layer ${layer}, head ${head}`, score({ layer, head }),
        isPicked({ layer, head }) ? "retrieval head" : "local head"],
    }),
    data: numbers("Scores of all heads", () => table(["Head", "Score", "Spread", "Kind"], ranked.map((one) =>
      [headName(one.layer, one.head), fixed(one.score), fixed(spread[one.layer][one.head]),
        isPicked(one) ? "retrieval" : "local"]))),
  }), html("div", { class: wide ? "aside wide" : "aside" }, html("div", {}, html("h3", {}, "How sure the choice is"),
    html("dl", { class: "pairs" },
      [["Stability", percent(profile.stability, 0), "of the best heads are also found by a single document"],
        ["Weakest chosen", fixed(least), ""],
        ["Best not chosen", next ? fixed(next.score) : MISSING, next ? `head ${headName(next.layer, next.head)}` : ""],
      ].map(([name, value, remark]) => html("div", {}, html("dt", {}, name), html("dd", {}, html("strong", {}, value), " ", remark))))),
    html("div", {}, html("h3", {}, "Leading heads"), table(["Head", "Score"],
      ranked.slice(0, 8).map((one) => [[headName(one.layer, one.head), isPicked(one) ? null : html("small", {}, "local")],
        score(one)])))))];
}

const RULES = [
  { key: "top_p", colour: "blue", shape: "circle" }, { key: "top_k", colour: "amber", shape: "square" },
  { key: "paper", colour: "plum", shape: "triangle" }, { key: "oracle", colour: "grey", shape: "diamond" },
];

function pointText(point) {
  return [RULE_NAMES[point.rule], settingsText(point), `KL ${decimal(point.kl)}`, `${integer(point.far_tokens)} far tokens`,
    `accuracy ${percent(point.accuracy)}`];
}

function selectionCurve({ points: measured, chosen, kl_target: target, far_available: available }) {
  const series = RULES.map((rule) => ({
    ...rule, name: rule.key === "oracle" ? "oracle (top-k by the true scores)" : RULE_NAMES[rule.key],
    points: measured.filter((point) => point.rule === rule.key)
      .map((point) => ({ x: point.far_tokens, y: point.kl, text: pointText(point) })),
  })).filter((one) => one.points.length > 0);
  const sorted = [...measured].sort((a, b) => a.rule.localeCompare(b.rule) || a.far_tokens - b.far_tokens);
  return figure({
    title: "What is lost against what is read",
    note: "KL to the model with dense retrieval heads, by far tokens that a head reads for a row. Lower and further left is " +
      "better; lines join the settings that no other of the same rule beats.",
    label: `KL against far tokens for ${series.map((one) => one.name).join(", ")}` +
      (chosen ? `. Chosen: KL ${decimal(chosen.kl)} at ${integer(chosen.far_tokens)} far tokens` : ""),
    legend: legend(series), wide: true,
    draw: (width) => costChart(width, {
      series, target, chosen: chosen ? { x: chosen.far_tokens, y: chosen.kl, text: pointText(chosen),
        series: RULES.find((rule) => rule.key === chosen.rule) } : null,
      limit: available > 0 ? { x: available, text: `all ${integer(available)}` } : null,
      x: { title: "far tokens a head and row", format: count }, y: { title: "KL, nats", format: (value) => decimal(value, 2) },
    }),
    data: numbers("All settings", () => table(["Rule", "Far tokens", "KL", "Accuracy"], sorted.map((point) =>
      [`${RULE_NAMES[point.rule]}: ${settingsText(point)}`, integer(point.far_tokens), decimal(point.kl), percent(point.accuracy)]))),
  });
}

function tokensByHead(tableOfHeads, chosen) {
  const heads = tableOfHeads.flatMap((row, layer) => row.map((value, head) => ({ layer, head, value })))
    .filter((one) => known(one.value)).sort((a, b) => b.value - a.value);
  const mean = heads.reduce((sum, one) => sum + one.value, 0) / heads.length;
  return heads.length === 0 ? null : figure({
    title: "Far tokens of each head",
    note: `Under the chosen settings, mean over the rows; ${integer(mean)} on average.`,
    label: `Far tokens of ${plural(heads.length, "retrieval head")}, from ${integer(heads[heads.length - 1].value)} to ` +
      `${integer(heads[0].value)}`,
    wide: true,
    draw: (width) => headColumns(width, {
      heads: heads.map((one) => ({ name: headName(one.layer, one.head), value: one.value,
        text: [`layer ${one.layer}, head ${one.head}`, `${integer(one.value)} far tokens`] })),
      lines: [{ value: mean, text: `mean ${integer(mean)}` },
        known(chosen?.max_tokens) && !chosen.by_head ? { value: chosen.max_tokens, text: `cap ${integer(chosen.max_tokens)}` } : null,
      ].filter((line) => line),
      title: "far tokens", format: count,
    }),
    data: numbers("Far tokens of all heads", () => table(["Head", "Far tokens"],
      heads.map((one) => [headName(one.layer, one.head), decimal(one.value)]))),
  });
}

function selectionSection({ selection }) {
  const { chosen } = selection;
  const onRows = `Measured on ${plural(selection.rows, "row")} of ${plural(selection.samples, "sample")}, where the model with ` +
    `dense retrieval heads is right on ${percent(selection.dense_accuracy)}.`;
  return [chosen
    ? html("p", {}, "Chosen: ", html("strong", {}, `${RULE_NAMES[chosen.rule]}, ${settingsText(chosen)}`),
      `, with a KL of ${decimal(chosen.kl)} at ${integer(chosen.far_tokens)} far tokens. `,
      selection.kl_target > 0 ? [targetState(selection.target_met, selection.kl_target), ". "] : null, onRows)
    : html("p", {}, "Nothing was chosen. ", onRows),
  html("div", { class: "figures" }, selection.points.length > 0 ? selectionCurve(selection) : null,
    tokensByHead(selection.far_tokens, chosen))];
}

function prefillSection({ prefill }) {
  const { mode, points: measured, tile_share: chosenShare, kl_target: target } = prefill;
  const how = mode === "dense"
    ? "Retrieval heads prefill densely: every token attends to all before it."
    : `Retrieval heads prefill by tiles of 128 queries and 64 keys. One is computed when its best key may hold more than ` +
      `${share(chosenShare)} of a query's attention.`;
  const chosen = measured.find((point) => mode === "tiles" && point.tile_share === chosenShare);
  const text = (point) => [`tile share ${decimal(point.tile_share)}`, `${share(point.density)} of the far tiles`,
    `KL ${decimal(point.kl)}`, `accuracy ${percent(point.accuracy)}`];
  const series = [{ name: "tile_share", colour: "blue", shape: "circle",
    points: measured.map((point) => ({ x: point.density, y: point.kl, text: text(point) })) }];
  return [html("p", {}, how, " ", chosen && target > 0 ? targetState(prefill.target_met, target) : null),
    measured.length === 0 ? null : html("div", { class: "figures" }, figure({
      title: "Density of the prefill tiles",
      note: "KL to dense prefill, the answer rows prefilled by tiles too, by the share of the far tiles that is computed.",
      label: `KL against tile density: ${measured.map((point) => `${decimal(point.kl)} at ${share(point.density)}`).join(", ")}`,
      wide: true,
      draw: (width) => costChart(width, { series, target, 
        chosen: chosen ? { x: chosen.density, y: chosen.kl, text: text(chosen), series: series[0] } : null,
        x: { title: "share of the far tiles computed", format: share }, y: { title: "KL, nats", format: (value) => decimal(value, 2) } }),
      data: numbers("All settings", () => table(["Tile share", "Density", "KL", "Accuracy"], measured.map((point) =>
        [decimal(point.tile_share), share(point.density), decimal(point.kl), percent(point.accuracy)]))),
    }))];
}
