#pragma once
#include <filesystem>

namespace retrosparse {

/// What a killed writer of a file or folder may leave beside it: `<target>.retrosparse-tmp-XXXXXX`, the new one, and
/// `<target>.retrosparse-old-XXXXXX`, the one before. Nobody gives such names to files of their own, as
/// model.old-backup.
enum class Leftover { kUnfinished, kMovedAside };

/// A name of that kind, with a random ending that no other writer uses.
std::filesystem::path name_beside(const std::filesystem::path& target, Leftover kind);

/// The folder that a path lies in; "." for a name alone.
std::filesystem::path folder_of(const std::filesystem::path& path);

/// Removes what killed writers of `target` left beside it. Where the target itself is missing, since a kill came
/// between moving the old one aside and the new one in place, the old one is put back. Only for a target that nobody
/// else is writing.
void remove_leftovers(const std::filesystem::path& target);

}  // namespace retrosparse
