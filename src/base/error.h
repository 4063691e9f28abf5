#pragma once
#include <stdexcept>
#include <string>

namespace retrosparse {

/// The one error of the project: something that its reader can act on. Build it from its parts,
///   throw Error("wrong shape").file(path).tensor(name).expected("[64, 32]").found("[32, 64]");
/// and what() reads
///   model.safetensors: tensor 'a.weight': wrong shape: expected [64, 32], found [32, 64]
/// It is always one line of printable UTF-8. Every command prints it on stderr and exits with code 1. A broken
/// invariant of our own code is not an Error but a std::logic_error.
class Error : public std::exception {
 public:
  explicit Error(std::string problem);

  Error& file(std::string path);
  Error& tensor(std::string name);
  Error& key(std::string name);  ///< a key of a configuration, recipe or json file, dotted: "rope_scaling.factor"
  Error& expected(std::string what);
  Error& found(std::string what);
  Error& hint(std::string what);  ///< what to do about it

  const char* what() const noexcept override { return message_.c_str(); }

 private:
  void compose();

  std::string problem_, file_, tensor_, key_, expected_, found_, hint_;
  std::string message_;
};

}  // namespace retrosparse
