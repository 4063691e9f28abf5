#include "text/tokenizer.h"

#include <fmt/format.h>

#include <mutex>
#include <utility>

#include "base/error.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

namespace retrosparse {

namespace {

/// Memory for one encode() at a time.
struct Workspace {
  explicit Workspace(const TokenizerParts& parts)
      : pre_tokenizer(parts.pre_tokenizer), normalized(parts.normalizers.size()) {}

  BpeModel::Scratch model;
  PreTokenizer::Scratch pre_tokenizer;
  std::vector<std::string> normalized;  // one for each normalizer

  size_t capacity() const {
    size_t bytes = model.capacity() + pre_tokenizer.capacity();
    for (const std::string& text : normalized) {
      bytes += text.capacity();
    }
    return bytes;
  }
};

/// Workspaces that wait for the next encode(), so that their caches stay warm.
class WorkspacePool {
 public:
  std::unique_ptr<Workspace> take(const TokenizerParts& parts) {
    const std::lock_guard lock(mutex_);
    if (waiting_.empty()) {
      return std::make_unique<Workspace>(parts);
    }
    std::unique_ptr<Workspace> workspace = std::move(waiting_.back());
    waiting_.pop_back();
    return workspace;
  }

  /// One that a very long text has blown up is not kept.
  void give_back(std::unique_ptr<Workspace> workspace) {
    static constexpr size_t kLargest = size_t{64} << 20;
    if (workspace->capacity() <= kLargest) {
      const std::lock_guard lock(mutex_);
      waiting_.push_back(std::move(workspace));
    }
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> waiting_;
};

std::vector<int64_t> put_into(const PostTemplate& around, std::vector<int64_t> ids, bool add_special_tokens) {
  if (around.pieces.size() == 1 && around.pieces.front().is_text) {
    return ids;
  }
  std::vector<int64_t> result;
  for (const PostTemplate::Piece& piece : around.pieces) {
    if (piece.is_text) {
      result.insert(result.end(), ids.begin(), ids.end());
    } else if (add_special_tokens) {
      result.insert(result.end(), piece.special_ids.begin(), piece.special_ids.end());
    }
  }
  return result;
}

}  // namespace

struct Tokenizer::State {
  explicit State(TokenizerParts all) : parts(std::move(all)) {}

  TokenizerParts parts;
  mutable WorkspacePool workspaces;
};

Tokenizer Tokenizer::from_json(const JsonObject& json) {
  return Tokenizer(std::make_shared<const State>(read_tokenizer(json)));
}

Tokenizer Tokenizer::from_file(const std::filesystem::path& path) {
  return from_json(JsonObject::read(path));
}

Tokenizer Tokenizer::from_folder(const std::filesystem::path& folder) {
  static constexpr std::pair<const char*, const char*> kOtherKinds[] = {
      {"tokenizer.model", "a SentencePiece or tiktoken model"},
      {"vocab.json", "the older form of a byte-level BPE tokenizer"},
      {"vocab.txt", "a WordPiece vocabulary"}};
  const std::filesystem::path file = folder / "tokenizer.json";
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) {
    for (const auto& [name, kind] : kOtherKinds) {
      if (std::filesystem::exists(folder / name, ignored)) {
        throw Error("this kind of tokenizer is not supported")
            .file((folder / name).string())
            .expected("a tokenizer.json beside it")
            .found(kind)
            .hint("transformers writes one: AutoTokenizer.from_pretrained(...).save_pretrained(...)");
      }
    }
  }
  return from_file(file);
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const size_t invalid = find_invalid_utf8(text);
  if (invalid != std::string_view::npos) {
    throw Error("the text is not valid UTF-8")
        .found(fmt::format("byte 0x{:02X} at offset {}", static_cast<unsigned char>(text[invalid]), invalid));
  }
  const TokenizerParts& parts = state_->parts;
  std::unique_ptr<Workspace> workspace = state_->workspaces.take(parts);
  std::vector<int64_t> ids;

  const auto add_id = [&](int32_t id) { ids.push_back(id); };
  const auto add_piece = [&](std::string_view piece) { parts.model.encode(piece, workspace->model, ids); };
  const auto add_normalized = [&](std::string_view part) {
    parts.pre_tokenizer.split(part, workspace->pre_tokenizer, add_piece);
  };
  const auto add_plain = [&](std::string_view part) {
    for (size_t i = 0; i < parts.normalizers.size(); ++i) {
      part = parts.normalizers[i].normalize(part, workspace->normalized[i]);
    }
    parts.normalized_tokens.split(part, options.parse_special, add_normalized, add_id);
  };
  parts.plain_tokens.split(text, options.parse_special, add_plain, add_id);

  state_->workspaces.give_back(std::move(workspace));
  return put_into(parts.around, std::move(ids), options.add_special_tokens);
}

std::string Tokenizer::decode(std::span<const int64_t> ids, const DecodeOptions& options) const {
  const Vocabulary& vocabulary = state_->parts.vocabulary;
  std::vector<std::string> spellings;
  spellings.reserve(ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    if (!vocabulary.contains(ids[i])) {
      throw Error("no token has this id")
          .expected(fmt::format("an id below {}", vocabulary.size()))
          .found(fmt::format("{} at place {}", ids[i], i));
    }
    if (options.skip_special_tokens && vocabulary.is_special(ids[i])) {
      continue;
    }
    spellings.push_back(vocabulary.token(ids[i]));
  }
  return state_->parts.decoder.decode(std::move(spellings));
}

int64_t Tokenizer::vocab_size() const {
  return state_->parts.vocabulary.size();
}

std::optional<int64_t> Tokenizer::token_to_id(std::string_view token) const {
  return state_->parts.vocabulary.id_of(token);
}

const std::string& Tokenizer::id_to_token(int64_t id) const {
  if (!state_->parts.vocabulary.contains(id)) {
    throw Error("no token has this id").expected(fmt::format("an id below {}", vocab_size())).found(std::to_string(id));
  }
  return state_->parts.vocabulary.token(id);
}

const std::string& Tokenizer::separator() const {
  return state_->parts.decoder.separator;
}

bool Tokenizer::is_special(int64_t id) const {
  return state_->parts.vocabulary.contains(id) && state_->parts.vocabulary.is_special(id);
}

}  // namespace retrosparse
