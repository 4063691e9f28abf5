#include "base/error.h"

#include <utility>

namespace retrosparse {

Error::Error(std::string problem) : problem_(std::move(problem)) {
  compose();
}

Error& Error::file(std::string path) {
  file_ = std::move(path);
  compose();
  return *this;
}

Error& Error::tensor(std::string name) {
  tensor_ = std::move(name);
  compose();
  return *this;
}

Error& Error::key(std::string name) {
  key_ = std::move(name);
  compose();
  return *this;
}

Error& Error::expected(std::string what) {
  expected_ = std::move(what);
  compose();
  return *this;
}

Error& Error::found(std::string what) {
  found_ = std::move(what);
  compose();
  return *this;
}

Error& Error::hint(std::string what) {
  hint_ = std::move(what);
  compose();
  return *this;
}

void Error::compose() {
  message_.clear();
  if (!file_.empty()) {
    message_ += file_ + ": ";
  }
  if (!tensor_.empty()) {
    message_ += "tensor '" + tensor_ + "': ";
  }
  if (!key_.empty()) {
    message_ += "key '" + key_ + "': ";
  }
  message_ += problem_;
  if (!expected_.empty()) {
    message_ += ": expected " + expected_;
  }
  if (!found_.empty()) {
    message_ += (expected_.empty() ? ": found " : ", found ") + found_;
  }
  if (!hint_.empty()) {
    message_ += " (" + hint_ + ")";
  }
}

}  // namespace retrosparse
