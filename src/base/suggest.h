#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace retrosparse {

/// Damerau-Levenshtein distance in its "optimal string alignment" form: the fewest insertions, deletions, substitutions
/// and swaps of neighbours that turn `a` into `b`, bytewise, no place edited twice.
size_t edit_distance(std::string_view a, std::string_view b);

/// The candidate that `word` was most likely meant to be: the nearest one, the first of equals. None when even that one
/// differs in more than a third of the longer word's letters (and at least one edit is always forgiven).
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates);

/// nearest() in the words of a hint, for Error::hint: "did you mean 'x'?", or "" when nothing is near.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

}  // namespace retrosparse
