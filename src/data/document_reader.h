#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace retrosparse {

/// One document of a file, in UTF-8.
struct Document {
  std::string text;                     ///< running text, or the prompt where there is a response
  std::optional<std::string> response;  ///< what a model is to answer to the prompt
  std::string origin;                   ///< where it is, for messages: "a.jsonl:17", or "books.txt.xz, document 3"
};

/// Calls `visit` with each document of a file, in order; only one is in memory at a time. The file may be packed by xz,
/// gzip or zstd.
/// - Named .jsonl or .ndjson: one json object a line, {"text": ...}, or {"prompt": ..., "response": ...}, neither of
/// the
///   two empty; other keys are ignored. Empty lines and empty texts are skipped.
/// - Any other name: plain text; NUL bytes separate documents. Those of white space only are skipped, a byte order mark
/// is
///   dropped.
/// Error: the file is missing, unreadable, corrupt, or has no document; not UTF-8 (names line and offset, those of the
/// unpacked text); a line that is no such json object; a kind of file that is known not to be text (.json, .zip, ...).
void read_documents(const std::filesystem::path& path, const std::function<void(Document&&)>& visit);

/// A file is itself; a folder stands for the files in it and below whose names end in .txt, .jsonl or .ndjson, or in
/// these and .xz, .gz or .zst, in alphabetical order. Error: missing, or a folder without such files.
std::vector<std::filesystem::path> document_files(const std::filesystem::path& path);

}  // namespace retrosparse
