// The sections about the two trainings.

function headLosses(heads) {
  const sorted = [...heads].sort((a, b) => b.end_kl - a.end_kl);
  const mean = (key, weight = () => 1) => heads.reduce((sum, head) => sum + weight(head) * head[key], 0) /
    heads.reduce((sum, head) => sum + weight(head), 0);
  const byMass = (key) => mean(key, (head) => head.far_mass);
  const start = { name: "at the start", colour: "grey", shape: "diamond" };
  const end = { name: "at the end", colour: "blue", shape: "circle" };
  return figure({
    title: "What each head's index misses",
    note: "Far KL of each retrieval head before and after: " +
      `${decimal(mean("start_kl"))} → ${decimal(mean("end_kl"))} on average, ` +
      `${decimal(byMass("start_kl"))} → ${decimal(byMass("end_kl"))} with heads weighted by their far mass: ` +
      "where a head attends to little beyond its window, it matters little that the index misses it.",
    label: `Far KL of ${plural(heads.length, "retrieval head")}, mean ${decimal(mean("start_kl"))} at the start and ` +
      `${decimal(mean("end_kl"))} at the end`,
    legend: legend([start, end]),
    draw: (width) => headColumns(width, {
      heads: sorted.map((head) => ({
        name: headName(head.layer, head.head), value: head.end_kl, from: head.start_kl,
        text: [`layer ${head.layer}, head ${head.head}`, `start ${decimal(head.start_kl)}`,
          `end ${decimal(head.end_kl)}`, `far mass ${share(head.far_mass)}`],
      })),
      title: "KL, nats", format: decimal,
    }),
    data: numbers("Far KL of each head", () => table(["Head", "Start", "End", "Far mass"],
      sorted.map((head) => [headName(head.layer, head.head), decimal(head.start_kl), decimal(head.end_kl),
        share(head.far_mass)]))),
  });
}

function trainSection(report) {
  const { target, initialization, index_dim: dim, steps, heads } = report.train;
  const of = (key) => steps.map((step) => step[key]);
  const first = steps[0], last = steps[steps.length - 1];
  const kl = [{ name: target === "far" ? "far KL, weighted" : "KL, weighted", colour: "blue", values: of("kl") },
    { name: "every row counting 1", colour: "grey", line: "dashed", values: of("unweighted_kl") }];
  const gate = [{ name: "gate loss", colour: "amber", values: of("gate_loss") }];
  const gradient = [{ name: "gradient norm", colour: "plum", values: of("gradient_norm") }];
  const lead = `${plural(steps.length, "step")} on ${target === "far" ? "the far keys" : "all keys"}, index of ` +
    `${dim} dimensions, initialised ${initialization === "rope" ? "from the slowest rotary pairs" : "at random"}. ` +
    "The weights of the model were frozen.";
  if (steps.length === 0) {
    return [html("p", {}, `Training-free: the index of ${dim} dimensions is used as it was initialised, `,
      initialization === "rope" ? "from the slowest rotary pairs." : "at random."),
      heads.length > 0 ? headLosses(heads) : null];
  }
  const small = (title, series, unit, note) => figure({
    title, note, label: `${title} over ${plural(steps.length, "step")}`,
    draw: (width) => stepChart(width, { steps: of("step"), series, title: unit }),
  });
  return [html("p", {}, lead), html("div", { class: "figures" },
    figure({
      title: "Index loss",
      note: `KL of the index's softmax from the true attention, in nats: ${decimal(first.kl)} at the first step, ` +
        `${decimal(last.kl)} at the last.${steps.length > 60 ? " In bold, the mean of neighbouring steps." : ""}`,
      label: `KL by step, from ${decimal(first.kl)} to ${decimal(last.kl)}`,
      legend: legend(kl),
      draw: (width) => stepChart(width, { steps: of("step"), series: kl, title: "KL, nats" }),
      data: numbers("All steps", () => table(["Step", "KL", "Unweighted", "Gate loss", "Learning rate",
        "Gradient norm"],
        steps.map((step) => [integer(step.step), decimal(step.kl), decimal(step.unweighted_kl), decimal(step.gate_loss),
          decimal(step.learning_rate), decimal(step.gradient_norm)]))),
    }),
    heads.length > 0 ? headLosses(heads) : null,
    small("Gate loss", gate, "nats", "Binary cross-entropy of the far-mass estimate."),
    small("Gradient norm", gradient, "norm", "Before clipping."))];
}

function distillSection(report) {
  const { steps, held_out_kl_before: before, held_out_kl_after: after } = report.distill;
  if (steps.length === 0) {
    return [html("p", { class: "absent" },
      "0 steps were asked for: the weights of the model are those that it came with.")];
  }
  const change = known(before) && known(after)
    ? html("p", { class: "change" }, "KL of the sparse model from the dense teacher on documents not trained on: ",
      html("strong", { class: "whole" }, `${decimal(before)} → ${decimal(after)}`),
      ` (${after <= before ? "−" : "+"}` +
        `${Math.abs(100 * (after / before - 1)).toFixed(0)} %) in ${plural(steps.length, "step")}.`)
    : html("p", {}, `${plural(steps.length, "step")}; no held-out documents were measured.`);
  const series = [{ name: "loss", colour: "blue", values: steps.map((step) => step.loss) }];
  return [change, html("div", { class: "figures" }, figure({
    title: "Distillation loss",
    note: "Against the teacher's ten likeliest tokens.",
    label: `Loss by step, from ${decimal(steps[0].loss)} to ${decimal(steps[steps.length - 1].loss)}`,
    draw: (width) => stepChart(width, { steps: steps.map((step) => step.step), series, title: "nats" }),
    data: numbers("All steps", () => table(["Step", "Loss", "Learning rate"],
      steps.map((step) => [integer(step.step), decimal(step.loss), decimal(step.learning_rate)]))),
  }))];
}
