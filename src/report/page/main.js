// Puts the page together.

function section(id, title, content) {
  return html("section", { id, "aria-labelledby": `${id}-title` }, html("h2", { id: `${id}-title` }, title), content);
}

function validationSection({ validation, model }) {
  return [comparisonTable(validation, model), html("p", { class: "key" }, html("span", { class: "badge" }, "●"),
    " best of its row; accuracies within one standard error (±) of the best count as equal. ",
    "An accuracy is the share of answer tokens that are the model's first choice."), variantLegend()];
}

function runSection({ stages, environment, recipe }) {
  const settings = flattened(recipe);
  const versions = [["retrosparse", environment.retrosparse], ["torch", environment.torch],
    ["dtype", environment.dtype],
    ["device", environment.device], ["processes", environment.processes], ["CPU threads", environment.threads],
    ["kernels", environment.kernels]];
  return [stages.length > 0 ? stageTable(stages) : html("p", { class: "absent" }, "No stage was timed."),
    html("div", { class: "columns" },
      html("div", {}, html("h3", {}, "Versions"), html("dl", { class: "settings" },
        versions.map(([name, value]) => html("div", {}, html("dt", {}, name), html("dd", {}, `${value}`))))),
      settings.length === 0 ? null : html("div", {}, html("h3", {}, "Recipe, with every default"),
        html("dl", { class: "settings long" }, settings.map(([name, value]) =>
          html("div", {}, html("dt", {}, name), html("dd", {}, settingValue(value)))))))];
}

const SECTIONS = [
  { id: "tasks", title: "Quality", part: "validation", draw: validationSection,
    absent: "The converted model was not validated." },
  { id: "selection", title: "Selection", part: "selection", draw: selectionSection,
    absent: "The selection was not calibrated." },
  { id: "heads", title: "Heads", part: "profile", draw: profileSection, absent: "The heads were not profiled." },
  { id: "prefill", title: "Prefill", part: "prefill", draw: prefillSection,
    absent: "Sparse prefill was not calibrated." },
  { id: "index", title: "Stage 1: index and gates", part: "train", draw: trainSection, absent: "Stage 1 was not run." },
  { id: "distill", title: "Stage 2: distillation", part: "distill", draw: distillSection,
    absent: "Stage 2 was not run." },
  { id: "run", title: "Run", part: null, draw: runSection },
];

function main() {
  const report = JSON.parse(document.getElementById("data").textContent);
  document.title = `${report.model.name} – RetroSparse report`;
  const contents = html("nav", { "aria-label": "Contents" },
    html("ul", {}, SECTIONS.map(({ id, title }) => html("li", {}, html("a", { href: `#${id}` }, title)))));
  const sections = SECTIONS.map(({ id, title, part, draw, absent }) => section(id, title,
    part === null || report[part] ? draw(report) : html("p", { class: "absent" }, absent)));
  document.getElementById("report").replaceChildren(...[header(report), summary(report), contents, sections]
    .flat(Infinity).filter((node) => node));
}

try {
  main();
} catch (problem) {
  document.getElementById("report").replaceChildren(html("p", { role: "alert" },
    `This report could not be drawn (${problem.message}). The numbers are in report.json beside it.`));
}
