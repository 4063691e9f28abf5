#include "export/model_card.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

namespace retrosparse {
namespace {

std::string range_text(const std::vector<double>& values) {
  const auto [lowest, highest] = std::ranges::minmax(values);
  return lowest == highest ? fmt::format("{:g}", lowest) : fmt::format("{:g} to {:g}", lowest, highest);
}

// One value over all retrieval heads: "64", or "64 to 256".
template <typename Member>
std::string range_of(const SelectionSettings& selection, Member member) {
  std::vector<double> values;
  for (const std::vector<GateSettings>& layer : selection.gates) {
    for (const GateSettings& gate : layer) {
      values.push_back(static_cast<double>(gate.*member));
    }
  }
  return range_text(values);
}

std::string selection_text(const SparseModel& model) {
  const SelectionSettings& selection = model.selection;
  if (model.plan.num_retrieval_heads() == 0) {
    return "none";
  }
  const std::string p = range_of(selection, &GateSettings::p);
  const std::string most = range_of(selection, &GateSettings::max_tokens);
  switch (selection.rule) {
    case SelectionRule::kTopP:
      return fmt::format("`top_p`: until {} of the attention mass is covered, at least {}, at most {}", p,
                         range_of(selection, &GateSettings::min_tokens), most);
    case SelectionRule::kTopK:
      return fmt::format("`top_k`: {}", most);
    case SelectionRule::kPaper:
      return fmt::format("`paper`: plain top-p over all keys, p = {}", p);
  }
  return "";
}

std::string tail_text(const SparseModel& model) {
  if (model.selection.tail_block == 0) {
    return "do not count";
  }
  return fmt::format("count by their index score and the mean value of their block of {} (`tail_block`)",
                     model.selection.tail_block);
}

std::string settings_table(const ExportInput& input) {
  const SparseModel& model = input.converted.sparse;
  std::string text = "| | |\n|---|---|\n";
  text += fmt::format("| architecture before | {} |\n", input.config.architecture);
  text += fmt::format("| retrieval heads | {} of {} |\n", model.plan.num_retrieval_heads(),
                      input.config.num_hidden_layers * input.config.num_attention_heads);
  text += fmt::format("| local heads see | the first {} tokens and the latest {} |\n", model.plan.local.sink_tokens,
                      model.plan.local.window);
  text += fmt::format("| index | {} numbers per token and key/value group with a retrieval head |\n",
                      model.indexer.index_dim);
  text += fmt::format("| far tokens per retrieval head when decoding | {} |\n", selection_text(model));
  text += fmt::format("| far tokens that are not picked | {} |\n", tail_text(model));
  if (input.converted.sparse.prefill.mode == PrefillMode::kTiles) {
    text += fmt::format("| retrieval heads when reading a prompt | tiles, `tile_share` {} |\n",
                        input.converted.sparse.prefill.shares_text());
  } else {
    text += "| retrieval heads when reading a prompt | dense |\n";
  }
  return text;
}

constexpr char kMethod[] =
    "[RTPurbo](https://arxiv.org/abs/2605.16928). A few *retrieval heads* keep the whole context and, while decoding,\n"
    "attend to those of its tokens that a cheap index picks; all other heads see the first tokens and a window of the\n"
    "latest ones.\n";

}  // namespace

std::string model_card(const ExportInput& input) {
  return fmt::format(R"(---
library_name: transformers
pipeline_tag: text-generation
tags:
- sparse-attention
- retrosparse
---
# Sparse attention with RetroSparse

This checkpoint was converted from full to sparse attention by RetroSparse, an implementation of
{}
{}
Model weights: {}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("<this folder>", dtype="auto", trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained("<this folder>", trust_remote_code=True)
```

The modelling code beside the weights runs it in plain PyTorch, dense while it reads the prompt and sparse while it
decodes. On an H100 or H200, in bfloat16, RetroSparse's operator library makes it fast:
`torch.ops.load_library("libretrosparse_ops.so")`. An engine that does not know the architecture refuses the checkpoint.
)",
                     kMethod, settings_table(input),
                     input.weights == nullptr ? "those of the model before" : "trained further with sparse attention");
}

std::string adapter_card(const ExportInput& input, const std::string& base_identity) {
  return fmt::format(R"(# RetroSparse adapter

What turns a full-attention checkpoint into one with sparse attention, without the checkpoint: the index tensors
(`adapter.safetensors`) and the settings (`retrosparse.json`). The method is
{}
{}| made for the checkpoint | `{}` |
)",
                     kMethod, settings_table(input), base_identity);
}

}  // namespace retrosparse
