#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "text/code_points.h"
#include "text/utf8.h"

namespace retrosparse {

namespace {

/// What Unicode 10.0 to 15.0 added that has a combining class, decomposes, or composes. (Data: UCD 15.0.0,
/// UnicodeData.txt and DerivedAge.txt; no character that was assigned before has changed, by the stability policy.)
const CodePoints& since_unicode_9() {
  static const CodePoints set = {
      // clang-format off
    {0x7FD, 0x7FD}, {0x898, 0x89F}, {0x8CA, 0x8D3}, {0x9FE, 0x9FE}, {0xC3C, 0xC3C}, {0xD3B, 0xD3C}, {0xEBA, 0xEBA},
    {0x1715, 0x1715}, {0x1ABF, 0x1ACE}, {0x1DF6, 0x1DFA}, {0x32FF, 0x32FF}, {0xA7F2, 0xA7F4}, {0xA82C, 0xA82C},
    {0xAB69, 0xAB69}, {0x10781, 0x10785}, {0x10787, 0x107B0}, {0x107B2, 0x107BA}, {0x10D24, 0x10D27},
    {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11938, 0x11938},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x16FF0, 0x16FF1}, {0x1E030, 0x1E06D}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1F16C, 0x1F16C}, {0x1FBF0, 0x1FBF9},
      // clang-format on
  };
  return set;
}

constexpr char32_t kFirstHangulSyllable = 0xAC00, kLastHangulSyllable = 0xD7A3;

bool composes(NormalForm form) {
  return form == NormalForm::kNfc || form == NormalForm::kNfkc;
}

utf8proc_option_t decomposition_of(NormalForm form) {
  const bool compatibility = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                        (compatibility ? UTF8PROC_COMPAT : UTF8PROC_STABLE));
}

int combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

/// The normal form of a sequence that begins at a boundary and ends at one, in place.
void normalize_segment(NormalForm form, std::string_view segment, std::vector<utf8proc_int32_t>& code_points) {
  static constexpr size_t kLongest = 18;  // the longest decomposition of one character
  code_points.clear();
  for (size_t offset = 0; offset < segment.size();) {
    std::array<utf8proc_int32_t, kLongest> decomposed;
    const auto code_point = static_cast<utf8proc_int32_t>(next_code_point(segment, offset));
    const utf8proc_ssize_t size =
        utf8proc_decompose_char(code_point, decomposed.data(), kLongest, decomposition_of(form), nullptr);
    code_points.insert(code_points.end(), decomposed.begin(), decomposed.begin() + size);
  }
  // Canonical ordering of every run of marks. utf8proc's own is quadratic in the length of a run.
  for (auto begin = code_points.begin(); begin != code_points.end();) {
    const auto is_starter = [](utf8proc_int32_t code_point) { return combining_class(code_point) == 0; };
    const auto end = std::find_if(begin, code_points.end(), is_starter);
    std::stable_sort(begin, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end == code_points.end() ? end : end + 1;
  }
  if (composes(form)) {
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    const auto size = static_cast<utf8proc_ssize_t>(code_points.size());
    code_points.resize(static_cast<size_t>(utf8proc_normalize_utf32(code_points.data(), size, options)));
  }
}

}  // namespace

struct Normalizer::Table {
  enum Kind : uint8_t {
    kStable,    // a starter that does not change and does not combine with what is before it: a boundary
    kUnstable,  // anything else
    kUnknown,   // to Unicode 9.0: copied, and a boundary on both sides
  };
  std::vector<Kind> kind_of = std::vector<Kind>(CodePoints::kLast + 1, kStable);

  explicit Table(NormalForm form) {
    const bool compatibility = (decomposition_of(form) & UTF8PROC_COMPAT) != 0;
    std::vector<utf8proc_int32_t> normal;
    std::string text;
    for (char32_t code_point = 0; code_point <= CodePoints::kLast; ++code_point) {
      const auto signed_code_point = static_cast<utf8proc_int32_t>(code_point);
      const utf8proc_property_t* property = utf8proc_get_property(signed_code_point);
      const bool is_hangul = code_point >= kFirstHangulSyllable && code_point <= kLastHangulSyllable;
      const bool decomposes = property->decomp_seqindex != UINT16_MAX && (compatibility || property->decomp_type == 0);
      if (property->combining_class != 0) {
        kind_of[code_point] = kUnstable;
      }
      if (!is_hangul && !decomposes) {
        continue;
      }
      text.clear();
      append_utf8(code_point, text);
      normalize_segment(form, text, normal);
      if (normal != std::vector{signed_code_point}) {
        kind_of[code_point] = kUnstable;
      } else if (composes(form)) {  // composed: its last part combines with what is before it
        normalize_segment(NormalForm::kNfd, text, normal);
        kind_of[static_cast<size_t>(normal.back())] = kUnstable;
      }
    }
    for (const CodePoints::Range& range : since_unicode_9().ranges()) {
      std::fill(kind_of.begin() + range.first, kind_of.begin() + range.last + 1, kUnknown);
    }
  }
};

const Normalizer::Table& Normalizer::table_of(NormalForm form) {
  switch (form) {
    case NormalForm::kNfc: {
      static const Table table(NormalForm::kNfc);
      return table;
    }
    case NormalForm::kNfd: {
      static const Table table(NormalForm::kNfd);
      return table;
    }
    case NormalForm::kNfkc: {
      static const Table table(NormalForm::kNfkc);
      return table;
    }
    default: {
      static const Table table(NormalForm::kNfkd);
      return table;
    }
  }
}

Normalizer::Normalizer(NormalForm form) : form_(form), table_(&table_of(form)) {}

std::string_view Normalizer::normalize(std::string_view text, std::string& buffer) const {
  buffer.clear();
  size_t copied = 0;   // what is before is in the buffer
  size_t segment = 0;  // the last boundary
  bool unstable = false;
  std::vector<utf8proc_int32_t> code_points;
  const auto close = [&](size_t end) {
    if (unstable) {
      buffer += text.substr(copied, segment - copied);
      normalize_segment(form_, text.substr(segment, end - segment), code_points);
      for (const utf8proc_int32_t code_point : code_points) {
        append_utf8(static_cast<char32_t>(code_point), buffer);
      }
      copied = end;
      unstable = false;
    }
    segment = end;
  };
  for (size_t offset = 0; offset < text.size();) {
    const size_t begin = offset;
    switch (table_->kind_of[next_code_point(text, offset)]) {
      case Table::kStable:
        close(begin);
        break;
      case Table::kUnstable:
        unstable = true;
        break;
      case Table::kUnknown:
        close(begin);
        segment = offset;
        break;
    }
  }
  close(text.size());
  if (copied == 0) {
    return text;
  }
  buffer += text.substr(copied);
  return buffer;
}

std::string normalize(std::string_view text, const std::vector<Normalizer>& normalizers) {
  std::string result(text);
  for (const Normalizer& normalizer : normalizers) {
    std::string buffer;
    result = normalizer.normalize(std::string(result), buffer);
  }
  return result;
}

}  // namespace retrosparse
