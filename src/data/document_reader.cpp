#include "data/document_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <memory>
#include <system_error>

#include "base/file.h"
#include "base/json.h"
#include "data/byte_stream.h"
#include "data/codec.h"
#include "text/utf8.h"

namespace retrosparse {

namespace fs = std::filesystem;

namespace {

enum class FileKind { kText, kJsonLines, kOther };

/// The extension that tells what is in a file: ".txt" of "a.txt.xz".
std::string content_extension(const fs::path& path) {
  const fs::path last = path.extension();
  const bool packed = std::ranges::any_of(compressed_formats(),
                                          [&](const CompressedFormat& format) { return last == format.extension; });
  return packed ? path.stem().extension().string() : last.string();
}

FileKind kind_of(const fs::path& path) {
  constexpr std::array kOther = {".json", ".parquet", ".arrow", ".zip", ".tar", ".bz2", ".7z", ".pdf", ".safetensors"};
  const std::string extension = content_extension(path);
  if (extension == ".jsonl" || extension == ".ndjson") {
    return FileKind::kJsonLines;
  }
  return std::ranges::find(kOther, extension) == kOther.end() ? FileKind::kText : FileKind::kOther;
}

/// A file's content piece by piece: what lies between two separators. UTF-8 is checked.
class PieceReader {
 public:
  PieceReader(const fs::path& path, char separator)
      : path_(path), separator_(separator), stream_(open_bytes(path)), buffer_(kBufferSize) {}

  /// The next piece, without its separator; false at the end. Nothing follows a separator at the very end.
  bool next(std::string& piece) {
    piece.clear();
    while (true) {
      if (unread_.empty()) {
        unread_ = {buffer_.data(), stream_->read(buffer_)};
        if (unread_.empty()) {
          break;
        }
      }
      const size_t end = unread_.find(separator_);
      piece += unread_.substr(0, end);
      if (end != unread_.npos) {
        unread_.remove_prefix(end + 1);
        finish(piece, 1);
        return true;
      }
      unread_ = {};
    }
    const bool any = !piece.empty();
    finish(piece, 0);
    return any;
  }

  /// Whether the file has no byte at all; known once next() was called.
  bool empty_file() const { return offset_ == 0; }

 private:
  static constexpr size_t kBufferSize = size_t{1} << 18;
  static constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

  void finish(std::string& piece, size_t separator_size) {
    check_utf8(piece);
    const bool first = offset_ == 0;
    offset_ += piece.size() + separator_size;
    line_ += static_cast<uint64_t>(std::ranges::count(piece, '\n')) + (separator_ == '\n' ? separator_size : 0);
    if (first && piece.starts_with(kByteOrderMark)) {
      piece.erase(0, kByteOrderMark.size());
    }
  }

  void check_utf8(const std::string& piece) const {
    const size_t invalid = find_invalid_utf8(piece);
    if (invalid != piece.npos) {
      const auto lines = std::ranges::count(std::string_view(piece).substr(0, invalid), '\n');
      throw Error("not UTF-8")
          .file(fmt::format("{}:{}", path_.string(), line_ + static_cast<uint64_t>(lines)))
          .found(
              fmt::format("byte 0x{:02X} at offset {}", static_cast<unsigned char>(piece[invalid]), offset_ + invalid));
    }
  }

  fs::path path_;
  char separator_;
  std::unique_ptr<ByteStream> stream_;
  std::vector<char> buffer_;
  std::string_view unread_;  // of buffer_
  uint64_t offset_ = 0, line_ = 1;
};

/// The document in a line of json; an empty text where it has none.
Document parse_line(const std::string& line, std::string origin) {
  const JsonObject json = JsonObject::parse(line, origin);
  const bool text = json.has("text"), prompt = json.has("prompt"), response = json.has("response");
  if (text && !prompt && !response) {
    return {json.get<std::string>("text"), std::nullopt, std::move(origin)};
  }
  if (text || !prompt || !response) {
    throw Error("not a document")
        .file(std::move(origin))
        .expected(R"({"text": ...} or {"prompt": ..., "response": ...})")
        .found(fmt::format("the keys '{}'", fmt::join(json.keys(), "', '")));
  }
  Document document{json.get<std::string>("prompt"), json.get<std::string>("response"), std::move(origin)};
  for (const char* key : {"prompt", "response"}) {
    if (json.get<std::string>(key).empty()) {
      throw json.error(key, "is empty");
    }
  }
  return document;
}

}  // namespace

void read_documents(const fs::path& path, const std::function<void(Document&&)>& visit) {
  const FileKind kind = kind_of(path);
  if (kind == FileKind::kOther) {
    throw Error(fmt::format("'{}' files cannot be read as text", content_extension(path)))
        .file(path.string())
        .expected("plain text, or .jsonl with one object a line");
  }
  const bool lines = kind == FileKind::kJsonLines;
  PieceReader reader(path, lines ? '\n' : '\0');
  bool any = false;
  std::string piece;
  for (int64_t number = 1; reader.next(piece); ++number) {
    if (piece.find_first_not_of(" \t\r\n") == piece.npos) {
      continue;
    }
    Document document = lines ? parse_line(piece, fmt::format("{}:{}", path.string(), number))
                              : Document{std::move(piece), {}, fmt::format("{}, document {}", path.string(), number)};
    if (!document.text.empty()) {
      any = true;
      visit(std::move(document));
    }
  }
  if (!any) {
    throw Error(reader.empty_file() ? "the file is empty" : "no document with a text is in it").file(path.string());
  }
}

std::vector<fs::path> document_files(const fs::path& path) {
  std::error_code problem;
  if (!fs::is_directory(path, problem)) {
    if (!fs::exists(path, problem)) {
      throw Error("no such file or folder").file(path.string());
    }
    return {path};
  }
  std::vector<fs::path> files;
  for (auto entry = fs::recursive_directory_iterator(path, problem);
       !problem && entry != fs::recursive_directory_iterator(); entry.increment(problem)) {
    const std::string extension = content_extension(entry->path());
    const bool wanted = extension == ".txt" || kind_of(entry->path()) == FileKind::kJsonLines;
    if (wanted && entry->is_regular_file()) {
      files.push_back(entry->path());
    }
  }
  if (problem) {
    throw Error("cannot list the folder: " + problem.message()).file(path.string());
  }
  if (files.empty()) {
    throw Error("no file in this folder can be read as text")
        .file(path.string())
        .expected("names that end in .txt or .jsonl, packed (.xz, .gz, .zst) or not");
  }
  std::ranges::sort(files);
  return files;
}

}  // namespace retrosparse
