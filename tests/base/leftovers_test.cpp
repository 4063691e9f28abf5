#include "base/leftovers.h"

#include <gtest/gtest.h>

#include <chrono>

#include "base/file.h"
#include "base/testing.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

TEST(Leftovers, WhatAKilledWriterLeftCanBeRemoved) {
  const TempFolder folder;
  for (const char* file :
       {"out/x", "out.retrosparse-tmp-abc123/x", "out.retrosparse-old-abc123/x", "out.retrosparse-tmp-abc1234/x",
        "other.retrosparse-tmp-abc123/x", "out.old-backup/x", "out.tmp-backup/x"}) {
    fs::create_directories((folder / file).parent_path());
    put_file(folder / file, "1");
  }
  remove_leftovers(folder / "out");
  EXPECT_EQ(folder.names(), (std::set<std::string>{"out", "out.retrosparse-tmp-abc1234", "other.retrosparse-tmp-abc123",
                                                   "out.old-backup", "out.tmp-backup"}));
}

TEST(Leftovers, WhatAKilledWriterMovedAsideIsPutBack) {
  const TempFolder folder;
  for (const char* file : {"out.retrosparse-tmp-abc123/x", "out.retrosparse-old-def456/x"}) {
    fs::create_directories((folder / file).parent_path());
    put_file(folder / file, file);
  }
  remove_leftovers(folder / "out");
  EXPECT_EQ(folder.names(), (std::set<std::string>{"out"}));
  EXPECT_EQ(read_text(folder / "out/x"), "out.retrosparse-old-def456/x");
}

TEST(Leftovers, OfSeveralThatWereMovedAsideTheLatestIsPutBack) {
  const TempFolder folder;
  for (const char* file : {"out.retrosparse-old-def456/x", "out.retrosparse-old-abc123/x"}) {
    fs::create_directories((folder / file).parent_path());
    put_file(folder / file, file);
  }
  fs::last_write_time(folder / "out.retrosparse-old-abc123", fs::file_time_type::clock::now() - std::chrono::hours(1));
  remove_leftovers(folder / "out");
  EXPECT_EQ(folder.names(), (std::set<std::string>{"out"}));
  EXPECT_EQ(read_text(folder / "out/x"), "out.retrosparse-old-def456/x");
}

}  // namespace
}  // namespace retrosparse
