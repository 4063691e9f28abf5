#include "report/check_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "base/error.h"

namespace retrosparse {
namespace {

constexpr int64_t kMostHeads = int64_t{1} << 20;  // L x H that a page can show; far beyond all models

class Checker {
 public:
  Checker(const Report::Model& model, const std::string& file) : model_(model), file_(file) {}

  void shape() const {
    const int64_t layers = model_.num_hidden_layers, heads = model_.num_attention_heads;
    const int64_t groups = model_.num_key_value_heads;
    if (layers < 1 || layers > kMostHeads || heads < 1 || heads > kMostHeads / layers || groups < 1 || groups > heads) {
      throw error("model", "impossible shape")
          .expected("at least one layer, query head and key/value head")
          .found(fmt::format("{} layers of {} query and {} key/value heads", layers, heads, groups));
    }
  }

  void table(const std::string& key, const Report::HeadTable& table) const {
    rows(key, table.size());
    for (size_t layer = 0; layer < table.size(); ++layer) {
      if (std::cmp_not_equal(table[layer].size(), model_.num_attention_heads)) {
        throw error(fmt::format("{}[{}]", key, layer), "wrong length")
            .expected(fmt::format("{}, one for each attention head", model_.num_attention_heads))
            .found(std::to_string(table[layer].size()));
      }
    }
  }

  void heads(const std::string& key, const std::vector<std::vector<int64_t>>& heads) const {
    rows(key, heads.size());
    for (size_t layer = 0; layer < heads.size(); ++layer) {
      for (const int64_t head : heads[layer]) {
        this->head(fmt::format("{}[{}]", key, layer), static_cast<int64_t>(layer), head);
      }
    }
  }

  void head(const std::string& key, int64_t layer, int64_t head) const {
    if (layer < 0 || layer >= model_.num_hidden_layers || head < 0 || head >= model_.num_attention_heads) {
      throw error(key, "no such head")
          .expected(
              fmt::format("layer 0 to {}, head 0 to {}", model_.num_hidden_layers - 1, model_.num_attention_heads - 1))
          .found(fmt::format("layer {}, head {}", layer, head));
    }
  }

  void word(const std::string& key, std::string_view word, std::initializer_list<std::string_view> allowed) const {
    if (std::ranges::find(allowed, word) == allowed.end()) {
      throw error(key, "unknown value")
          .expected(fmt::format("{}", fmt::join(allowed, ", ")))
          .found(fmt::format("'{}'", word));
    }
  }

 private:
  void rows(const std::string& key, size_t count) const {
    if (std::cmp_not_equal(count, model_.num_hidden_layers)) {
      throw error(key, "wrong length")
          .expected(fmt::format("{}, one for each layer", model_.num_hidden_layers))
          .found(std::to_string(count));
    }
  }

  Error error(const std::string& key, const char* problem) const { return Error(problem).file(file_).key(key); }

  const Report::Model& model_;
  const std::string& file_;
};

void check_selection(const Report::Selection& selection, const Checker& check) {
  const auto rule = [&](const std::string& key, const Report::SelectionPoint& point) {
    check.word(key, point.rule, {"top_p", "top_k", "paper", "oracle"});
  };
  for (size_t i = 0; i < selection.points.size(); ++i) {
    rule(fmt::format("selection.points[{}].rule", i), selection.points[i]);
  }
  if (selection.chosen) {
    rule("selection.chosen.rule", *selection.chosen);
  }
  for (size_t i = 0; i < selection.gates.size(); ++i) {
    check.head(fmt::format("selection.gates[{}]", i), selection.gates[i].layer, selection.gates[i].head);
  }
  if (!selection.far_tokens.empty()) {
    check.table("selection.far_tokens", selection.far_tokens);
  }
}

}  // namespace

void check_report(const Report& report, const std::string& file) {
  const Checker check(report.model, file);
  check.shape();
  if (report.profile) {
    check.table("profile.mean", report.profile->mean);
    check.table("profile.spread", report.profile->spread);
    check.heads("profile.retrieval_heads", report.profile->retrieval_heads);
    check.word("profile.policy", report.profile->policy, {"query_head", "kv_group"});
  }
  if (report.train) {
    check.word("train.target", report.train->target, {"far", "full"});
    check.word("train.initialization", report.train->initialization, {"rope", "random"});
    for (size_t i = 0; i < report.train->heads.size(); ++i) {
      const Report::HeadLoss& loss = report.train->heads[i];
      check.head(fmt::format("train.heads[{}]", i), loss.layer, loss.head);
    }
  }
  if (report.selection) {
    check_selection(*report.selection, check);
  }
  if (report.prefill) {
    check.word("prefill.mode", report.prefill->mode, {"dense", "tiles"});
  }
}

}  // namespace retrosparse
