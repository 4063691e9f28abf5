#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "base/log.h"
#include "text/byte_level.h"
#include "text/pattern_syntax.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

namespace retrosparse {

namespace {

constexpr int kDeepestSequence = 8;

std::string kind_of(const JsonObject& stage) {
  return stage.get<std::string>("type");
}

Error unsupported(const JsonObject& stage, std::string_view what, std::string expected) {
  return stage.error("type", fmt::format("this {} is not supported", what))
      .expected(std::move(expected))
      .found("'" + kind_of(stage) + "'");
}

/// A stage, or the members of a Sequence of stages (and of Sequences in it), which are listed under `members`.
void flatten(const JsonObject& stage, std::string_view members, int depth, std::vector<JsonObject>& stages) {
  if (kind_of(stage) != "Sequence") {
    stages.push_back(stage);
    return;
  }
  if (depth == kDeepestSequence) {
    throw stage.error("type", "so many nested Sequences are not supported");
  }
  for (const JsonObject& member : stage.objects(members)) {
    flatten(member, members, depth + 1, stages);
  }
}

std::vector<JsonObject> stages_of(const JsonObject& json, std::string_view key, std::string_view members) {
  std::vector<JsonObject> stages;
  if (json.has(key)) {
    flatten(json.object(key), members, 0, stages);
  }
  return stages;
}

std::vector<Normalizer> read_normalizers(const JsonObject& json) {
  static constexpr std::pair<std::string_view, NormalForm> kForms[] = {
      {"NFC", NormalForm::kNfc}, {"NFD", NormalForm::kNfd}, {"NFKC", NormalForm::kNfkc}, {"NFKD", NormalForm::kNfkd}};
  std::vector<Normalizer> normalizers;
  for (const JsonObject& stage : stages_of(json, "normalizer", "normalizers")) {
    const std::string kind = kind_of(stage);
    const auto* form =
        std::find_if(std::begin(kForms), std::end(kForms), [&](const auto& f) { return f.first == kind; });
    if (form == std::end(kForms)) {
      throw unsupported(stage, "normalizer", "NFC, NFD, NFKC, NFKD or a Sequence of them");
    }
    normalizers.emplace_back(form->second);
  }
  return normalizers;
}

Splitter read_split(const JsonObject& stage) {
  static constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous}};
  const auto name = stage.get<std::string>("behavior");
  const auto* behavior =
      std::find_if(std::begin(kBehaviors), std::end(kBehaviors), [&](const auto& b) { return b.first == name; });
  if (behavior == std::end(kBehaviors)) {
    throw stage.wrong_value("behavior", "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
  }
  const JsonObject pattern = stage.object("pattern");
  const bool is_regex = pattern.has("Regex");
  const auto text = pattern.get<std::string>(is_regex ? "Regex" : "String");
  try {
    return Splitter(is_regex ? parse_pattern(text) : literal_pattern(text), behavior->second,
                    stage.get<bool>("invert"));
  } catch (const Error& problem) {
    throw stage.error("pattern", problem.what());
  }
}

PreTokenizer read_pre_tokenizer(const JsonObject& json) {
  std::vector<PreTokenizer::Step> steps;
  const std::vector<JsonObject> stages = stages_of(json, "pre_tokenizer", "pretokenizers");
  for (size_t i = 0; i < stages.size(); ++i) {
    const JsonObject& stage = stages[i];
    const std::string kind = kind_of(stage);
    if (kind == "Split") {
      steps.emplace_back(read_split(stage));
    } else if (kind == "Digits") {
      PatternSyntax digit;
      digit.sets = {unicode::digits()};
      digit.elements = {{"", 0}};
      const bool individual = stage.get<bool>("individual_digits");
      steps.emplace_back(Splitter(digit, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous));
    } else if (kind == "ByteLevel") {
      if (i + 1 < stages.size()) {
        throw stages[i + 1]
            .error("type", "a stage behind ByteLevel is not supported")
            .found("'" + kind_of(stages[i + 1]) + "'");
      }
      if (stage.get<bool>("add_prefix_space")) {
        steps.emplace_back(PreTokenizer::PrefixSpace());
      }
      if (stage.get_or<bool>("use_regex", true)) {
        steps.emplace_back(Splitter(parse_pattern(kGpt2Pattern), SplitBehavior::kIsolated));
      }
    } else {
      throw unsupported(stage, "pre-tokenizer", "Split, Digits, ByteLevel or a Sequence of them");
    }
  }
  if (stages.empty() || kind_of(stages.back()) != "ByteLevel") {
    throw json.error("pre_tokenizer", "this tokenizer does not work on bytes, which is not supported")
        .expected("ByteLevel as the last stage");
  }
  return PreTokenizer(std::move(steps));
}

/// Without a decoder the package puts spaces between tokens.
Decoder read_decoder(const JsonObject& json) {
  Decoder decoder{.stages = {}, .separator = json.has("decoder") ? "" : " "};
  for (const JsonObject& stage : stages_of(json, "decoder", "decoders")) {
    const std::string kind = kind_of(stage);
    if (kind != "ByteLevel" && kind != "Fuse") {
      throw unsupported(stage, "decoder", "ByteLevel, Fuse, a Sequence of them or null");
    }
    decoder.stages.push_back(kind == "Fuse" ? Decoder::Stage::kFuse : Decoder::Stage::kByteLevel);
  }
  if (std::ranges::count(decoder.stages, Decoder::Stage::kByteLevel) == 0) {
    log_warning("{}: the decoder has no ByteLevel: text comes as the tokens are spelt, as from the tokenizers package",
                json.file());
  }
  return decoder;
}

/// The package numbers added tokens itself: what the vocabulary has keeps its id, the others follow behind as many ids
/// as there are tokens, holes or not. The file's own numbers do not count; this tells where they are others.
class Numbering {
 public:
  Numbering(const JsonObject& json, const Vocabulary& vocabulary)
      : json_(json), vocabulary_(vocabulary), next_id_(static_cast<int64_t>(vocabulary.count())) {}

  int32_t id_of(const JsonObject& token, const std::string& content) {
    const std::optional<int32_t> known = vocabulary_.id_of(content);
    const int64_t id = known ? *known : next_id_++;
    const auto stated = token.get<int64_t>("id");
    if (id > Vocabulary::kLargestId || !taken_.insert(id).second) {
      throw token.error("id", fmt::format("no id is left for the added token '{}'", content))
          .expected(fmt::format("one that no added token has, at most {}", Vocabulary::kLargestId))
          .found(std::to_string(id));
    }
    if (id != stated && renumbered_++ == 0) {
      example_ = fmt::format("'{}' has {} there and {} here", content, stated, id);
    }
    return static_cast<int32_t>(id);
  }

  void warn() const {
    if (renumbered_ > 0) {
      log_warning("{}: {} added tokens have other ids than the tokenizers package, and so RetroSparse, gives them: {}",
                  json_.file(), renumbered_, example_);
    }
  }

 private:
  const JsonObject& json_;
  const Vocabulary& vocabulary_;
  int64_t next_id_;
  std::unordered_set<int64_t> taken_;
  int64_t renumbered_ = 0;
  std::string example_;
};

void read_added_tokens(const JsonObject& json, TokenizerParts& parts) {
  std::unordered_set<std::string> contents;
  Numbering numbering(json, parts.vocabulary);
  for (const JsonObject& entry : json.has("added_tokens") ? json.objects("added_tokens") : std::vector<JsonObject>()) {
    AddedToken token{.content = entry.get<std::string>("content"),
                     .single_word = entry.get<bool>("single_word"),
                     .lstrip = entry.get<bool>("lstrip"),
                     .rstrip = entry.get<bool>("rstrip"),
                     .normalized = entry.get<bool>("normalized"),
                     .special = entry.get<bool>("special")};
    if (token.content.empty()) {
      continue;
    }
    if (!contents.insert(token.content).second) {
      throw entry.error("content", fmt::format("'{}' is listed twice", token.content));
    }
    token.id = numbering.id_of(entry, token.content);
    std::string spelling = token.normalized ? normalize(token.content, parts.normalizers) : token.content;
    AddedTokenMatcher& matcher = token.normalized ? parts.normalized_tokens : parts.plain_tokens;
    if (!matcher.add(spelling, token)) {
      throw entry.error("content",
                        fmt::format("'{}' is the same as another added token once normalized", token.content));
    }
    const bool special = token.special && spelling == token.content;
    parts.vocabulary.add_over(token.content, token.id, std::move(spelling), special);
  }
  numbering.warn();
}

/// RobertaProcessing and BertProcessing: one token before the text and one behind it, each ["<s>", 0].
PostTemplate read_enclosing(const JsonObject& stage) {
  PostTemplate enclosing{{{false, {}}, {true, {}}, {false, {}}}};
  for (const auto& [key, piece] : {std::pair("cls", 0), std::pair("sep", 2)}) {
    const nlohmann::json& pair = stage.raw().contains(key) ? stage.raw()[key] : nlohmann::json();
    if (!pair.is_array() || pair.size() != 2 || !pair[1].is_number_integer()) {
      throw stage.error(key, "malformed").expected("[\"token\", id]");
    }
    enclosing.pieces[static_cast<size_t>(piece)].special_ids = {pair[1].get<int64_t>()};
  }
  return enclosing;
}

PostTemplate read_template(const JsonObject& stage) {
  PostTemplate result{{}};
  for (const JsonObject& piece : stage.objects("single")) {
    if (piece.has("Sequence")) {
      if (piece.object("Sequence").get<std::string>("id") != "A") {
        throw piece.object("Sequence").wrong_value("id", "A, the only sequence of a single text");
      }
      result.pieces.push_back({true, {}});
    } else {
      const auto name = piece.object("SpecialToken").get<std::string>("id");
      const JsonObject token = stage.object("special_tokens").object(name);
      result.pieces.push_back({false, token.get<std::vector<int64_t>>("ids")});
    }
  }
  return result;
}

PostTemplate read_post_processor(const JsonObject& json, const Vocabulary& vocabulary) {
  std::optional<PostTemplate> around;
  for (const JsonObject& stage : stages_of(json, "post_processor", "processors")) {
    const std::string kind = kind_of(stage);
    if (kind == "ByteLevel") {
      continue;  // only moves offsets, which are of no interest here
    }
    if (around) {
      throw stage.error("type", "more than one template is not supported").found("'" + kind + "'");
    }
    if (kind == "TemplateProcessing") {
      around = read_template(stage);
    } else if (kind == "RobertaProcessing" || kind == "BertProcessing") {
      around = read_enclosing(stage);
    } else {
      throw unsupported(stage, "post-processor", "TemplateProcessing, ByteLevel or a Sequence of them");
    }
    for (const PostTemplate::Piece& piece : around->pieces) {
      for (const int64_t id : piece.special_ids) {
        if (!vocabulary.contains(id)) {
          throw stage.error("type", fmt::format("adds the id {}, which no token has", id));
        }
      }
    }
  }
  return around.value_or(PostTemplate());
}

}  // namespace

TokenizerParts read_tokenizer(const JsonObject& json) {
  const auto version = json.get_or<std::string>("version", "1.0");
  if (version != "1.0") {
    throw json.error("version", "unknown").expected("'1.0'").found("'" + version + "'");
  }
  TokenizerParts parts;
  BpeModel::Tables tables = read_bpe_model(json.object("model"), parts.vocabulary);
  parts.normalizers = read_normalizers(json);
  parts.pre_tokenizer = read_pre_tokenizer(json);
  parts.decoder = read_decoder(json);
  read_added_tokens(json, parts);
  parts.around = read_post_processor(json, parts.vocabulary);
  parts.model = BpeModel(std::move(tables));
  return parts;
}

}  // namespace retrosparse
