#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <optional>
#include <thread>

#include "base/testing.h"

namespace retrosparse {
namespace {

namespace fs = std::filesystem;

/// While it lives, nothing can be created in the folder; a root process becomes another user for that.
class ReadOnlyFolder {
 public:
  explicit ReadOnlyFolder(const fs::path& folder) : folder_(folder) {
    fs::permissions(folder_, fs::perms::owner_read | fs::perms::owner_exec);
    if (::geteuid() == 0) {
      EXPECT_EQ(::seteuid(65534), 0);
    }
  }
  ~ReadOnlyFolder() {
    if (::getuid() == 0) {
      EXPECT_EQ(::seteuid(0), 0);
    }
    fs::permissions(folder_, fs::perms::owner_all);
  }

 private:
  fs::path folder_;
};

TEST(ReadText, ReadsFilesToTheirEnd) {
  const TempFolder folder;
  const std::string text(100'000, 'x');
  put_file(folder / "a", text);
  put_file(folder / "empty", "");
  EXPECT_EQ(read_text(folder / "a"), text);
  EXPECT_EQ(read_text(folder / "empty"), "");
  EXPECT_FALSE(read_text("/proc/self/status").empty()) << "a file whose size is said to be 0";
}

TEST(ReadText, RefusesWhatMayNeverEnd) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(contains(error_of([&] { read_text(folder / "pipe"); }), "not a regular file")) << "and no waiting";
  EXPECT_TRUE(contains(error_of([&] { read_text("/dev/zero"); }), "not a regular file"));
  EXPECT_TRUE(contains(error_of([&] { read_text(folder.path()); }), "Is a directory"));
  EXPECT_EQ(read_text_or_pipe("/dev/null"), "");
}

TEST(MappedFile, SharesOneMappingAmongCopies) {
  const TempFolder folder;
  put_file(folder / "a", "hello");
  std::optional<MappedFile> first(folder / "a");
  const MappedFile second = *first;
  EXPECT_EQ(first->data().data(), second.data().data());
  first.reset();
  EXPECT_EQ(second.size(), 5U);
  EXPECT_EQ(static_cast<char>(second.data()[4]), 'o');
}

TEST(MappedFile, TakesEmptyFilesAndRefusesOthersThanFiles) {
  const TempFolder folder;
  put_file(folder / "empty", "");
  EXPECT_EQ(MappedFile(folder / "empty").size(), 0U);
  EXPECT_TRUE(contains(error_of([&] { MappedFile(folder / "gone"); }), "cannot open: No such file"));
  EXPECT_TRUE(contains(error_of([&] { MappedFile{folder.path()}; }), "not a regular file"));
  EXPECT_TRUE(contains(error_of([&] { MappedFile("/dev/zero"); }), "not a regular file"));
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_TRUE(contains(error_of([&] { MappedFile(folder / "pipe"); }), "not a regular file")) << "and no waiting";
}

TEST(AtomicFile, AppearsOnlyWithTheCommit) {
  const TempFolder folder;
  put_file(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new ");
    file.write("text");
    EXPECT_EQ(read_text(folder / "a"), "old");
    EXPECT_EQ(folder.names().size(), 2U);
    file.commit();
    EXPECT_EQ(read_text(folder / "a"), "new text");
  }
  EXPECT_EQ(folder.names(), std::set<std::string>{"a"});
}

TEST(AtomicFile, LeavesNothingBehindWithoutACommit) {
  const TempFolder folder;
  put_file(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("half");
    AtomicFile moved = std::move(file);
    moved.write(" done");
  }
  EXPECT_EQ(folder.names(), std::set<std::string>{"a"});
  EXPECT_EQ(read_text(folder / "a"), "old");
}

TEST(AtomicFile, FollowsTheProcessMaskAndSymbolicLinks) {
  const TempFolder folder;
  const mode_t old_mask = ::umask(0027);
  write_atomically(folder / "a", "x");
  ::umask(old_mask);
  struct stat status {};
  ASSERT_EQ(::stat((folder / "a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640U);

  fs::create_symlink(folder / "a", folder / "link");
  write_atomically(folder / "link", "through");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_text(folder / "a"), "through");
}

TEST(AtomicFile, SaysWhyItCannotWrite) {
  const TempFolder folder;
  EXPECT_EQ(error_of([&] { AtomicFile(folder / "no/such/folder"); }),
            (folder / "no/such/folder").string() + ": cannot write: No such file or directory");
  EXPECT_TRUE(contains(error_of([&] { AtomicFile{folder.path()}; }), "not a regular file"));
  EXPECT_TRUE(contains(error_of([&] { write_atomically("/dev/full", "x"); }), "not a regular file"));
  EXPECT_TRUE(fs::is_character_file("/dev/full")) << "a device must not be replaced, not even by root";
}

TEST(AtomicFile, RefusesAFolderWithoutPermission) {
  const TempFolder folder;
  put_file(folder / "a", "old");
  {
    const ReadOnlyFolder read_only(folder.path());
    EXPECT_EQ(error_of([&] { AtomicFile(folder / "a"); }),
              (folder / "a").string() + ": cannot write: Permission denied");
    EXPECT_TRUE(contains(error_of([&] { AtomicFolder(folder / "out"); }), "cannot create the folder: Permission"));
  }
  EXPECT_EQ(read_text(folder / "a"), "old");
}

TEST(AtomicFile, KeepsWhatExistedWhenTheDiskIsFull) {
  const TempFolder folder;
  put_file(folder / "a", "old");
  const std::string text(100'000, 'x');
  {
    const FileSizeLimit limit(50'000);
    EXPECT_EQ(error_of([&] { write_atomically(folder / "a", text); }),
              (folder / "a").string() + ": cannot write: File too large");
  }
  EXPECT_EQ(read_text(folder / "a"), "old");
  EXPECT_EQ(folder.names(), std::set<std::string>{"a"});
}

TEST(AtomicFolder, AppearsOnlyWithTheCommit) {
  const TempFolder folder;
  {
    AtomicFolder out(folder / "deep/er/out/");
    put_file(out.staging() / "x", "1");
    EXPECT_FALSE(fs::exists(folder / "deep/er/out"));
    out.commit();
  }
  EXPECT_EQ(read_text(folder / "deep/er/out/x"), "1");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "deep/er"), {}), 1);
}

TEST(AtomicFolder, LeavesNothingBehindWithoutACommit) {
  const TempFolder folder;
  { put_file(AtomicFolder(folder / "out").staging() / "x", "1"); }
  EXPECT_TRUE(folder.names().empty());
}

TEST(AtomicFolder, ReplacesOnlyWhenAsked) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  { AtomicFolder(folder / "out").commit(); }  // an empty folder may be filled
  put_file(folder / "out/old", "1");
  EXPECT_TRUE(contains(error_of([&] { AtomicFolder(folder / "out"); }), "the folder exists and is not empty"));
  {
    AtomicFolder out(folder / "out", /*replace=*/true);
    put_file(out.staging() / "new", "2");
    EXPECT_TRUE(fs::exists(folder / "out/old"));
    out.commit();
  }
  EXPECT_FALSE(fs::exists(folder / "out/old"));
  EXPECT_EQ(read_text(folder / "out/new"), "2");
  EXPECT_EQ(folder.names(), std::set<std::string>{"out"});
}

TEST(AtomicFolder, TheNameIsNeverWithoutAFolderWhileItIsReplaced) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  put_file(folder / "out/x", "0");
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (int i = 0; i < 200; ++i) {
      AtomicFolder out(folder / "out", /*replace=*/true);
      put_file(out.staging() / "x", std::to_string(i));
      out.commit();
    }
    done = true;
  });
  int64_t looks = 0, missing = 0;
  for (; !done; ++looks) {
    missing += fs::exists(folder / "out") ? 0 : 1;
  }
  writer.join();
  EXPECT_EQ(missing, 0) << "of " << looks << " looks";
}

TEST(AtomicFile, KeepsTheModeOfWhatItReplaces) {
  const TempFolder folder;
  put_file(folder / "secret", "old");
  fs::permissions(folder / "secret", fs::perms::owner_read | fs::perms::owner_write);
  write_atomically(folder / "secret", "new");
  EXPECT_EQ(fs::status(folder / "secret").permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST(AtomicFolder, DoesNotReplaceWhatAppearedMeanwhile) {
  const TempFolder folder;
  AtomicFolder out(folder / "out");
  fs::create_directory(folder / "out");
  put_file(folder / "out/theirs", "1");
  EXPECT_TRUE(contains(error_of([&] { out.commit(); }), "cannot put the new folder in place"));
  EXPECT_EQ(read_text(folder / "out/theirs"), "1");
}

TEST(AtomicFolder, RefusesAFileInItsPlace) {
  const TempFolder folder;
  put_file(folder / "out", "x");
  EXPECT_TRUE(contains(error_of([&] { AtomicFolder(folder / "out", true); }), "exists and is not a folder"));
  EXPECT_TRUE(contains(error_of([&] { AtomicFolder(folder / "out/inner"); }), "cannot create the folder: "));
  EXPECT_EQ(read_text(folder / "out"), "x");
}

}  // namespace
}  // namespace retrosparse
