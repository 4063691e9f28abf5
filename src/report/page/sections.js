// The sections about heads, selection and prefill, in the words of the method.

/** The heads of all layers, best score first. */
function rankedHeads({ mean, spread, retrieval_heads: chosen, documents }) {
  return mean
    .flatMap((row, layer) => row.map((score, head) => ({
      layer, head, score, name: headName(layer, head), picked: chosen[layer].includes(head),
      text: documents > 1 ? `${fixed(score)} ± ${fixed(spread[layer][head])}` : fixed(score),
    })))
    .sort((a, b) => b.score - a.score);
}

function scoreMap({ model, profile }, ranked, wide) {
  const kind = (head) => (head.picked ? "retrieval head" : "local head");
  const byName = new Map(ranked.map((head) => [head.name, head]));
  const leaders = ranked.slice(0, 3).map((head) => `${head.name} with ${decimal(head.score, 2)}`);
  return figure({
    title: "Retrieval score of each head",
    note: "Share of the attention that a repeated needle pays to its first copy; mean of " +
      `${plural(profile.documents, "document")}.`,
    label: `Retrieval scores by layer and head. Highest: ${leaders.join(", ")}`,
    legend: heatLegend(decimal(ranked[0].score, 2), "retrieval head"),
    wide,
    draw: (width) => heatMap(width, {
      values: profile.mean, chosen: profile.retrieval_heads,
      groupSize: model.num_attention_heads / model.num_key_value_heads,
      format: (value) => value.toFixed(2).replace(/^0/, ""),
      text: (layer, index) => {
        const head = byName.get(headName(layer, index));
        return [`layer ${layer}, head ${index}`, head.text, kind(head)];
      },
    }),
    data: numbers("Scores of all heads", () => table(["Head", "Score", "Kind"],
      ranked.map((head) => [head.name, head.text, kind(head)]))),
  });
}

function choiceFacts({ profile }, ranked, wide) {
  const least = ranked.findLast((head) => head.picked), next = ranked.find((head) => !head.picked);
  const facts = [
    ["Stability", percent(profile.stability, 0), known(profile.stability)
      ? "of the best heads are also found by a single document" : "not known from one document"],
    ["Weakest chosen", fixed(least?.score), least ? `head ${least.name}` : ""],
    ["Best not chosen", fixed(next?.score), next ? `head ${next.name}` : ""],
  ].map(([name, value, remark]) =>
    html("div", {}, html("dt", {}, name), html("dd", {}, html("strong", {}, value), " ", remark)));
  const leaders = ranked.slice(0, 8).map((head) =>
    [[head.name, head.picked ? null : html("small", {}, "local")], head.text]);
  return html("div", { class: wide ? "aside wide" : "aside" },
    html("div", {}, html("h3", {}, "How sure the choice is"), html("dl", { class: "pairs" }, facts)),
    html("div", {}, html("h3", {}, "Leading heads"), table(["Head", "Score"], leaders)));
}

function profileSection(report) {
  const { model, profile } = report;
  const ranked = rankedHeads(profile);
  const picked = ranked.filter((head) => head.picked).length;
  const wide = model.num_attention_heads > 16;
  return [
    html("p", {},
      `${picked} of ${plural(ranked.length, "query head")} (${share(picked / ranked.length)}) keep the whole context: `,
      `${profile.policy === "kv_group" ? "whole KV groups by their best head" : "the best heads by themselves"}. `,
      `The others see ${plural(profile.sink_tokens, "first token")} and a window of ${integer(profile.window)}.`),
    html("div", { class: "figures" }, scoreMap(report, ranked, wide), choiceFacts(report, ranked, wide)),
  ];
}

const RULES = [
  { key: "top_p", colour: "blue", shape: "circle" }, { key: "top_k", colour: "amber", shape: "square" },
  { key: "paper", colour: "plum", shape: "triangle" }, { key: "oracle", colour: "grey", shape: "diamond" },
];

// The task whose rows lose the most: often few rows decide the mean.
function worstTask({ tasks = [] }) {
  const worst = tasks.reduce((most, one) => (most && most.kl >= one.kl ? most : one), null);
  return worst ? `${worst.task} ${decimal(worst.kl)}` : "";
}

function pointText(point) {
  return [RULE_NAMES[point.rule], settingsText(point), `KL ${decimal(point.kl)}`,
    `${integer(point.far_tokens)} far tokens`,
    `accuracy ${percent(point.accuracy)}`];
}

function hasTail(point) {
  return known(point.tail_block);
}

/** The points of each rule; where there is a tail at all, with and without it apart, since it is what decides. */
function curveSeries(measured) {
  const tails = measured.some(hasTail);
  return RULES.flatMap((rule) => [true, false].map((tail) => {
    const own = measured.filter((point) => point.rule === rule.key);
    const name = rule.key === "oracle" ? "oracle (top-k by the true scores)" : RULE_NAMES[rule.key];
    return { ...rule, tail, shape: !tail && own.some(hasTail) ? "down" : rule.shape,
      name: tails ? `${name}, ${tail ? "with tail" : "no tail"}` : name,
      points: own.filter((point) => hasTail(point) === tail)
        .map((point) => ({ x: point.far_tokens, y: point.kl, text: pointText(point) })) };
  })).filter((one) => one.points.length > 0);
}

function selectionCurve({ points: measured, chosen, kl_target: target, far_available: available }) {
  const series = curveSeries(measured);
  const sorted = [...measured].sort((a, b) => a.rule.localeCompare(b.rule) || a.far_tokens - b.far_tokens);
  return figure({
    title: "What is lost against what is read",
    note: "KL to the model with dense retrieval heads, by far tokens that a head reads for a row. Lower and further left " +
      "is better; lines join the settings that no other of the same rule beats." +
      (measured.some(hasTail) ? " A tail lets means of blocks stand for the tokens that were not picked; without one " +
        "they are dropped." : ""),
    label: `KL against far tokens for ${series.map((one) => one.name).join(", ")}` +
      (chosen ? `. Chosen: KL ${decimal(chosen.kl)} at ${integer(chosen.far_tokens)} far tokens` : ""),
    legend: legend(series), wide: true,
    draw: (width) => costChart(width, {
      series, target, chosen: chosen ? { x: chosen.far_tokens, y: chosen.kl, text: pointText(chosen),
        series: series.find((one) => one.key === chosen.rule && one.tail === hasTail(chosen)) ??
          RULES.find((rule) => rule.key === chosen.rule) } : null,
      limit: available > 0 ? { x: available, text: `all ${integer(available)}` } : null,
      x: { title: "far tokens a head and row", format: count },
        y: { title: "KL, nats", format: (value) => decimal(value, 2) },
    }),
    data: numbers("All settings", () => table(["Rule", "Far tokens", "KL", "Most KL in", "Accuracy"],
      sorted.map((point) => [`${RULE_NAMES[point.rule]}: ${settingsText(point)}`, integer(point.far_tokens),
        decimal(point.kl), worstTask(point), percent(point.accuracy)]))),
  });
}

function tokensByHead({ far_tokens: tableOfHeads, chosen, gates }) {
  const gateOf = new Map(gates.map((gate) => [headName(gate.layer, gate.head), gate]));
  const gateLines = (name) => (gateOf.has(name) ? [settingsText({ ...gateOf.get(name), rule: "top_p" })] : []);
  const gateCells = (name) => {
    const gate = gateOf.get(name);
    return gate ? [decimal(gate.p), integer(gate.min_tokens), integer(gate.max_tokens)] : [];
  };
  const heads = tableOfHeads.flatMap((row, layer) => row.map((value, head) => ({ layer, head, value })))
    .filter((one) => known(one.value)).sort((a, b) => b.value - a.value);
  const mean = heads.reduce((sum, one) => sum + one.value, 0) / heads.length;
  return heads.length === 0 ? null : figure({
    title: "Far tokens of each head",
    note: `Under the chosen settings, mean over the rows; ${integer(mean)} on average.`,
    label: `Far tokens of ${plural(heads.length, "retrieval head")}, from ` +
      `${integer(heads[heads.length - 1].value)} to ${integer(heads[0].value)}`,
    wide: true,
    draw: (width) => headColumns(width, {
      heads: heads.map((one) => ({ name: headName(one.layer, one.head), value: one.value,
        text: [`layer ${one.layer}, head ${one.head}`, `${integer(one.value)} far tokens`,
          ...gateLines(headName(one.layer, one.head))] })),
      lines: [{ value: mean, text: `mean ${integer(mean)}` },
        known(chosen?.max_tokens) && !chosen.by_head ? { value: chosen.max_tokens,
          text: `cap ${integer(chosen.max_tokens)}` } : null,
      ].filter((line) => line),
      title: "far tokens", format: count,
    }),
    data: numbers("Far tokens and settings of all heads", () => table(
      ["Head", "Far tokens", ...(gates.length > 0 ? ["p", "Floor", "Cap"] : [])],
      heads.map((one) => [headName(one.layer, one.head), decimal(one.value),
        ...gateCells(headName(one.layer, one.head))]))),
  });
}

function selectionSection(report) {
  const { selection } = report, { chosen } = selection, outcome = klOutcome(report);
  const onRows = `Measured on ${plural(selection.rows, "row")} of ${plural(selection.samples, "sample")}, where the model ` +
    `with dense retrieval heads is right on ${percent(selection.dense_accuracy)}.`;
  return [chosen
    ? html("p", {}, "Chosen: ", html("strong", {}, `${RULE_NAMES[chosen.rule]}, ${settingsText(chosen)}`),
      `, with a KL of ${decimal(chosen.kl)} at ${integer(chosen.far_tokens)} far tokens. `,
      selection.kl_target > 0 ? [targetState(selection.target_met, selection.kl_target), ". "] : null, onRows,
      outcome ? [` On validation's samples the KL is ${decimal(outcome.validated)}: `,
        targetState(outcome.met, outcome.target), outcome.of ? ` ${outcome.of}` : null, outcome.warning ? `, while ${outcome.warning}.` : "."] : null)
    : html("p", {}, "Nothing was chosen. ", onRows),
  html("div", { class: "figures" }, selection.points.length > 0 ? selectionCurve(selection) : null,
    tokensByHead(selection))];
}

function prefillSection({ prefill, validation }) {
  const { mode, points: measured, tile_share: leastShare, kl_target: target } = prefill;
  const chosen = mode === "tiles" ? prefill.chosen : null;
  const most = chosen?.most_tile_share;
  const how = mode === "dense"
    ? "Retrieval heads prefill densely: every token attends to all before it."
    : `Retrieval heads prefill by tiles of 128 queries and 64 keys. One is computed when its best key may hold more ` +
      `than ${share(leastShare)}${known(most) ? ` to ${share(most)}, by head,` : ""} of a query's attention.`;
  const density = validation?.variants.sparse?.tile_density;
  const shares = (point) => decimal(point.tile_share) +
    (known(point.most_tile_share) ? ` to ${decimal(point.most_tile_share)}, by head` : "");
  const text = (point) => [`tile share ${shares(point)}`, `${share(point.density)} of the far tiles`,
    `KL ${decimal(point.kl)}`, `accuracy ${percent(point.accuracy)}`];
  const series = [{ name: "tile_share", colour: "blue", shape: "circle",
    points: measured.map((point) => ({ x: point.density, y: point.kl, text: text(point) })) }];
  return [html("p", {}, how, " ", chosen && target > 0 ? targetState(prefill.target_met, target) : null,
    known(density) ? ` In validation's prompts that was ${share(density)} of the far tiles.` : null),
    measured.length === 0 ? null : html("div", { class: "figures" }, figure({
      title: "Density of the prefill tiles",
      note: "KL to dense prefill, the answer rows prefilled by tiles too, by the share of the far tiles that is " +
        "computed.",
      label: "KL against tile density: " +
        measured.map((point) => `${decimal(point.kl)} at ${share(point.density)}`).join(", "),
      wide: true,
      draw: (width) => costChart(width, { series, target, 
        chosen: chosen ? { x: chosen.density, y: chosen.kl, text: text(chosen), series: series[0] } : null,
        x: { title: "share of the far tiles computed", format: share },
          y: { title: "KL, nats", format: (value) => decimal(value, 2) } }),
      data: numbers("All settings", () => table(["Tile share", "Density", "KL", "Most KL in", "Accuracy"],
        measured.map((point) => [shares(point), share(point.density), decimal(point.kl), worstTask(point),
          percent(point.accuracy)]))),
    }))];
}
