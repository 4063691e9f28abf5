#include "data/packing.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "base/random.h"
#include "data/data_testing.h"

namespace retrosparse {
namespace {

std::vector<Sample> pack_all(const Documents& documents, int64_t context_length, const SpecialTokens& special) {
  std::vector<uint32_t> order(documents.size());
  std::iota(order.begin(), order.end(), 0u);
  std::vector<Sample> samples;
  for (const auto& fragments : pack(documents, order, context_length, special)) {
    samples.push_back(assemble(documents, fragments, context_length, special));
  }
  return samples;
}

using Ids = std::vector<int64_t>;
using Starts = std::vector<int64_t>;

TEST(Packing, PutsShortTextsBehindEachOther) {
  const Documents documents{make_document(10, 3), make_document(20, 2), make_document(30, 3)};
  const auto samples = pack_all(documents, 5, without_begin());
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0], (Sample{Ids{10, 11, 12, kEnd, 20}, Starts{0, 4}, {}}));
  EXPECT_EQ(samples[1], (Sample{Ids{21, kEnd, 30, 31, 32}, Starts{0, 2}, {}})) << "the cut text goes on";
}

TEST(Packing, EveryFragmentBeginsAsTextsBegin) {
  const Documents documents{make_document(10, 3), make_document(20, 2), make_document(30, 3)};
  const auto samples = pack_all(documents, 6, with_begin());
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0], (Sample{Ids{kBegin, 10, 11, 12, kEnd, kBegin}, Starts{0, 5}, {}}));
  EXPECT_EQ(samples[1], (Sample{Ids{kBegin, 20, 21, kEnd, kBegin, 30}, Starts{0, 4}, {}}));
}

TEST(Packing, LongTextsFillSamplesOfTheirOwn) {
  const Documents documents{make_document(10, 2), make_document(100, 11), make_document(20, 4)};
  const auto samples = pack_all(documents, 5, without_begin());
  ASSERT_EQ(samples.size(), 4u);
  EXPECT_EQ(samples[0].ids, (Ids{100, 101, 102, 103, 104}));
  EXPECT_EQ(samples[1].ids, (Ids{105, 106, 107, 108, 109}));
  EXPECT_EQ(samples[2], (Sample{Ids{10, 11, kEnd, 110, kEnd}, Starts{0, 3}, {}})) << "short ones, and what is left";
  EXPECT_EQ(samples[3].ids, (Ids{20, 21, 22, 23, kEnd})) << "as long as a sample with its end";
}

TEST(Packing, NoSampleBeginsWithTheEndOfAText) {
  const Documents documents{make_document(100, 10), make_document(10, 4), make_document(20, 3)};
  const auto samples = pack_all(documents, 5, without_begin());
  ASSERT_EQ(samples.size(), 3u);
  EXPECT_EQ(samples[1].ids, (Ids{105, 106, 107, 108, 109}));
  EXPECT_EQ(samples[2].ids, (Ids{10, 11, 12, 13, kEnd}));
}

TEST(Packing, ResponsesAreLabelsBehindTheirWholePrompt) {
  const Documents documents{make_document(10, 4, 2), make_document(20, 5, 1), make_document(30, 2, 1)};
  const auto samples = pack_all(documents, 9, without_begin());
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(samples[0].ids, (Ids{10, 11, 12, 13, kEnd, 20, 21, 22, 23}));
  EXPECT_EQ(samples[0].labels, (std::vector<TokenRange>{{2, 4}})) << "the second text is there to fill only";
  EXPECT_EQ(samples[1].ids, (Ids{20, 21, 22, 23, 24, kEnd, 30, 31, kEnd}));
  EXPECT_EQ(samples[1].labels, (std::vector<TokenRange>{{4, 5}, {7, 8}}));

  const auto with_prefix = pack_all(documents, 10, with_begin());
  ASSERT_EQ(with_prefix.size(), 2u);
  EXPECT_EQ(with_prefix[0].ids, (Ids{kBegin, 10, 11, 12, 13, kEnd, kBegin, 20, 21, 22}));
  EXPECT_EQ(with_prefix[0].labels, (std::vector<TokenRange>{{3, 5}}));
  EXPECT_EQ(with_prefix[1].ids, (Ids{kBegin, 20, 21, 22, 23, 24, kEnd, kBegin, 30, 31}));
  EXPECT_EQ(with_prefix[1].labels, (std::vector<TokenRange>{{5, 6}})) << "the third one lacks room for its end";
}

/// Whatever the sizes: samples are full, no text token is lost but in the last sample, none comes twice but as filling,
/// label tokens are the response's.
TEST(Packing, KeepsItsPromisesForAnySizes) {
  Random random{3};
  for (int round = 0; round < 200; ++round) {
    const int64_t context_length = random.between(8, 40);
    const SpecialTokens special = round % 2 == 0 ? with_begin() : without_begin();
    Documents documents;
    for (int i = 0; i < 12; ++i) {
      const bool answered = random.below(3) == 0;
      const int64_t size = random.between(2, answered ? context_length - 2 : 3 * context_length);
      documents.push_back(
          make_document(static_cast<uint32_t>(1000 * (i + 1)), size, answered ? random.between(1, size - 1) : 0));
    }
    std::map<int64_t, int> times;  // each text token stands in a sample
    const auto samples = pack_all(documents, context_length, special);
    for (const Sample& sample : samples) {
      ASSERT_EQ(std::ssize(sample.ids), context_length);
      ASSERT_EQ(sample.document_starts.front(), 0);
      for (const int64_t start : sample.document_starts) {
        const int64_t id = sample.ids[static_cast<size_t>(start)];
        EXPECT_TRUE(special.begin_of_text.empty() ? id >= 1000 : id == kBegin) << id;
        EXPECT_TRUE(start == 0 || sample.ids[static_cast<size_t>(start) - 1] == kEnd);
      }
      for (const int64_t id : sample.ids) {
        ++times[id];
      }
      for (const TokenRange& label : sample.labels) {
        ASSERT_GT(label.begin, 0);
        const auto& document = documents[static_cast<size_t>(sample.ids[static_cast<size_t>(label.begin)] / 1000 - 1)];
        EXPECT_EQ(sample.ids[static_cast<size_t>(label.begin)],
                  document->ids[static_cast<size_t>(document->response.begin)]);
        EXPECT_EQ(sample.ids[static_cast<size_t>(label.end) - 1], document->ids.back());
      }
    }
    int64_t missing = 0;
    for (const auto& document : documents) {
      for (const uint32_t id : document->ids) {
        missing += times[id] == 0 ? 1 : 0;
        EXPECT_LE(times[id], document->has_response() ? 2 : 1);
      }
    }
    EXPECT_LE(missing, context_length);
  }
}

}  // namespace
}  // namespace retrosparse
