// Lets the Python tests call our tokenizer: answers one json object a line with one json object a line.
//   {"file": "tokenizer.json"}            -> {"vocab_size": n, "seconds": s}; used from then on
//   {"json": {...}}                       -> the same, for a tokenizer.json in the line itself
//   {"text": "..."}                       -> {"ids": [...]}; options: add_special_tokens, parse_special
//   {"ids": [...]}                        -> {"text": "..."}; option: skip_special_tokens
//   {"bench": "text file", "rounds": 3}   -> {"seconds": best round, "ids": count}
// Seconds are processor time. A failure is answered by {"error": "..."}.
#include <algorithm>
#include <ctime>
#include <exception>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/file.h"
#include "text/tokenizer.h"

namespace {

using nlohmann::json;
using retrosparse::Tokenizer;

/// Of this thread's work alone, so that figures of a busy machine mean something.
double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

json bench(const Tokenizer& tokenizer, const json& request) {
  const std::string text = retrosparse::read_text(request.at("bench").get<std::string>());
  double best = std::numeric_limits<double>::infinity();
  size_t count = 0;
  for (int round = 0; round < request.value("rounds", 3); ++round) {
    const double begin = cpu_seconds();
    count = tokenizer.encode(text).size();
    best = std::min(best, cpu_seconds() - begin);
  }
  return {{"seconds", best}, {"ids", count}};
}

json answer(std::optional<Tokenizer>& tokenizer, const json& request) {
  if (request.contains("file") || request.contains("json")) {
    const double begin = cpu_seconds();
    tokenizer.reset();
    tokenizer = request.contains("file")
                    ? Tokenizer::from_file(request["file"].get<std::string>())
                    : Tokenizer::from_json(retrosparse::JsonObject::parse(request["json"].dump(), "tokenizer.json"));
    return {{"vocab_size", tokenizer->vocab_size()}, {"seconds", cpu_seconds() - begin}};
  }
  if (request.contains("bench")) {
    return bench(tokenizer.value(), request);
  }
  if (request.contains("text")) {
    const retrosparse::EncodeOptions options{.add_special_tokens = request.value("add_special_tokens", true),
                                             .parse_special = request.value("parse_special", true)};
    return {{"ids", tokenizer.value().encode(request["text"].get_ref<const std::string&>(), options)}};
  }
  const retrosparse::DecodeOptions options{.skip_special_tokens = request.value("skip_special_tokens", true)};
  return {{"text", tokenizer.value().decode(request.at("ids").get<std::vector<int64_t>>(), options)}};
}

}  // namespace

int main() {
  std::ios::sync_with_stdio(false);
  std::optional<Tokenizer> tokenizer;
  for (std::string line; std::getline(std::cin, line);) {
    json reply;
    try {
      reply = answer(tokenizer, json::parse(line));
    } catch (const std::exception& problem) {
      reply = {{"error", problem.what()}};
    }
    std::cout << reply.dump() << std::endl;
  }
}
