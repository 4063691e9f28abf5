#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "base/json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/vocabulary.h"

namespace retrosparse {

/// What is put around the ids of a text: a sequence of fixed ids and of places where the text goes.
struct PostTemplate {
  struct Piece {
    bool is_text;
    std::vector<int64_t> special_ids;  ///< unless it is the text
  };
  std::vector<Piece> pieces = {{true, {}}};  ///< the text alone
};

/// The stages of a tokenizer, in the order in which a text goes through them.
struct TokenizerParts {
  AddedTokenMatcher plain_tokens;       ///< looked for in the text as it is
  std::vector<Normalizer> normalizers;  ///< one after the other
  AddedTokenMatcher normalized_tokens;  ///< looked for in what the normalizers give
  PreTokenizer pre_tokenizer;
  BpeModel model = BpeModel(BpeModel::Tables());
  PostTemplate around;  ///< what the finished ids go into
  Decoder decoder;
  Vocabulary vocabulary;
};

/// Reads a whole tokenizer.json. Error: whatever is missing, wrong or not supported, by its key.
TokenizerParts read_tokenizer(const JsonObject& json);

/// Reads the key `model`: the tables of the BPE model; fills `vocabulary`, which is empty. Error: as read_tokenizer.
BpeModel::Tables read_bpe_model(const JsonObject& model, Vocabulary& vocabulary);

}  // namespace retrosparse
