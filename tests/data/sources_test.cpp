// PackedSource, CropSource and the TextPool behind it.
#include <set>

#include "base/log.h"
#include "base/testing.h"
#include "data/crop_source.h"
#include "data/data_testing.h"
#include "data/packed_source.h"

namespace retrosparse {
namespace {

Documents some_documents() {
  Documents documents;
  for (uint32_t i = 1; i <= 9; ++i) {
    documents.push_back(make_document(1000 * i, 7 * i));
  }
  return documents;
}

TEST(PackedSource, IsAFunctionOfTheIndex) {
  PackedSource in_order("text", some_documents(), 16, with_begin(), 5),
      backwards("text", some_documents(), 16, with_begin(), 5);
  std::vector<Sample> samples;
  for (int64_t i = 0; i < 100; ++i) {
    samples.push_back(in_order.sample(i));
  }
  for (int64_t i = 99; i >= 0; i -= 7) {
    EXPECT_EQ(backwards.sample(i), samples[static_cast<size_t>(i)]) << i;
  }
}

TEST(PackedSource, EpochsDifferAndCoverTheText) {
  PackedSource source("text", some_documents(), 16, without_begin(), 5);
  const int64_t size = source.first_epoch_size();
  EXPECT_EQ(size, (7 * 45 + 9) / 16) << "all tokens and an end for each text, but for what makes no whole sample";
  std::vector<std::set<int64_t>> epochs(2);
  for (int64_t i = 0; i < 2 * size; ++i) {
    const Sample sample = source.sample(i);
    epochs[static_cast<size_t>(i / size)].insert(sample.ids.begin(), sample.ids.end());
  }
  EXPECT_GE(epochs[0].size(), 7u * 45 - 16);
  EXPECT_NE(source.sample(0), source.sample(size));
  EXPECT_EQ(source.first_epoch_size(), size);
}

TEST(PackedSource, DependsOnTheSeed) {
  PackedSource one("text", some_documents(), 16, without_begin(), 5),
      other("text", some_documents(), 16, without_begin(), 6);
  EXPECT_NE(one.sample(0), other.sample(0));
  EXPECT_NE(one.fingerprint(), other.fingerprint());
  EXPECT_EQ(one.fingerprint(), PackedSource("text", some_documents(), 16, without_begin(), 5).fingerprint());
  EXPECT_NE(one.fingerprint(), PackedSource("text", some_documents(), 17, without_begin(), 5).fingerprint());
  EXPECT_NE(one.fingerprint(), PackedSource("text", some_documents(), 16, with_begin(), 5).fingerprint());
  Documents changed = some_documents();
  changed.pop_back();
  EXPECT_NE(one.fingerprint(), PackedSource("text", changed, 16, without_begin(), 5).fingerprint());
}

TEST(PackedSource, SaysHowMuchTextThereIs) {
  const Documents documents{make_document(10, 3), make_document(20, 4)};
  EXPECT_NO_THROW(PackedSource("text", documents, 9, without_begin(), 5));
  const std::string message = error_of([&] { PackedSource("text", documents, 10, without_begin(), 5); });
  EXPECT_TRUE(contains(message,
                       "source 'text': the text is shorter than one sample: expected at least 10 tokens, "
                       "found 9 tokens in 2 documents"));
  EXPECT_TRUE(contains(error_of([&] { PackedSource("text", {}, 10, without_begin(), 5); }), "found 0 tokens"));
}

TEST(PackedSource, LeavesOutWhatDoesNotFit) {
  std::string warning;
  set_log_sink([&](std::string_view line) { warning = line; });
  const Documents documents{make_document(10, 20, 2), make_document(100, 4, 2), make_document(200, 4, 2)};
  PackedSource source("chats", documents, 8, without_begin(), 5);
  set_log_sink({});
  EXPECT_TRUE(contains(warning, "source 'chats': 1 of 3 documents are left out"));
  EXPECT_TRUE(contains(warning, "document at 10 has 20 tokens"));
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(source.sample(i).labels.size(), 1u);
    EXPECT_GE(source.sample(i).ids[0], 100);
  }
  const std::string message =
      error_of([&] { PackedSource("chats", {make_document(10, 20, 2)}, 8, without_begin(), 5); });
  EXPECT_TRUE(
      contains(message, "every prompt with its response is longer than the context: expected at most 7 tokens"));
}

TEST(CropSource, TakesConsecutiveTokensOfLongTexts) {
  CropSource source("text", {make_document(1000, 500), make_document(2000, 300)}, 100, with_begin(), 5);
  std::set<int64_t> begins;
  for (int64_t i = 0; i < 200; ++i) {
    const Sample sample = source.sample(i);
    ASSERT_EQ(sample.ids.size(), 100u);
    EXPECT_EQ(sample.ids[0], kBegin);
    EXPECT_EQ(sample.document_starts, std::vector<int64_t>{0});
    for (size_t j = 2; j < 100; ++j) {
      ASSERT_EQ(sample.ids[j], sample.ids[j - 1] + 1);
    }
    begins.insert(sample.ids[1]);
    EXPECT_EQ(sample, source.sample(i));
  }
  EXPECT_GT(begins.size(), 150u);
  EXPECT_LT(*begins.begin(), 1050);
  EXPECT_GT(*begins.rbegin(), 2150);
}

TEST(CropSource, JoinsShortTexts) {
  CropSource source("text", {make_document(10, 3), make_document(20, 3), make_document(30, 2)}, 8, with_begin(), 5);
  std::set<std::vector<int64_t>> seen;
  for (int64_t i = 0; i < 100; ++i) {
    seen.insert(source.sample(i).ids);
  }
  using Ids = std::vector<int64_t>;
  EXPECT_EQ(seen,
            (std::set<Ids>{Ids{kBegin, 10, 11, 12, kEnd, kBegin, 20, 21}, Ids{kBegin, 20, 21, 22, kEnd, kBegin, 30, 31},
                           Ids{kBegin, 30, 31, kEnd, kBegin, 10, 11, 12}}));
  EXPECT_EQ(source.sample(0).document_starts.size(), 2u);
  EXPECT_EQ(source.sample(0).ids[static_cast<size_t>(source.sample(0).document_starts[1])], kBegin);
}

TEST(CropSource, RefusesTooLittleTextAndResponses) {
  EXPECT_TRUE(
      contains(error_of([] { CropSource("text", {make_document(10, 3)}, 8, without_begin(), 5); }),
               "source 'text': the text is shorter than one sample: expected at least 8 tokens, found 4 tokens"));
  EXPECT_TRUE(contains(error_of([] { CropSource("text", {make_document(10, 9, 2)}, 8, without_begin(), 5); }),
                       "document at 10: source 'text': random crops need running text"));
  EXPECT_TRUE(contains(error_of([] { CropSource("text", {}, 8, without_begin(), 5); }), "no text"));
}

TEST(TextPool, TakesNoTokenTwice) {
  const TextPool pool({make_document(10, 3), make_document(20, 5), make_document(30, 4)}, with_begin());
  EXPECT_EQ(pool.num_tokens(), 18);
  Random random{1};
  for (int i = 0; i < 50; ++i) {
    const std::vector<int64_t> ids = pool.take(16, random).ids;
    std::multiset<int64_t> seen(ids.begin(), ids.end());
    seen.erase(kBegin);
    seen.erase(kEnd);
    EXPECT_EQ(seen.size(), std::set<int64_t>(seen.begin(), seen.end()).size());
  }
  EXPECT_EQ(pool.take(18, random).ids.size(), 18u);
  EXPECT_TRUE(contains(error_of([&] { pool.take(19, random); }),
                       "too little running text: expected at least 19 tokens, found 18 tokens in 3 documents"));
}

}  // namespace
}  // namespace retrosparse
