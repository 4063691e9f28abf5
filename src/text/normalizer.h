#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace retrosparse {

/// Unicode normalization forms (UAX #15).
enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

/// Brings text into a normal form, as the `tokenizers` package does: that is, by Unicode 9.0. Whatever was assigned
/// later stays as it is and neither combines with nor changes place with its neighbours.
class Normalizer {
 public:
  explicit Normalizer(NormalForm form);

  /// The normal form of valid UTF-8: `text` itself if it is in that form already, else a view of `buffer`, which then
  /// holds it. `text` is not a view of `buffer`.
  std::string_view normalize(std::string_view text, std::string& buffer) const;

 private:
  struct Table;  // how each code point behaves under the form
  static const Table& table_of(NormalForm form);

  NormalForm form_;
  const Table* table_;
};

/// `text` through one normalizer after the other.
std::string normalize(std::string_view text, const std::vector<Normalizer>& normalizers);

}  // namespace retrosparse
