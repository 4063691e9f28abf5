#pragma once
// See ../README.md.
#include <chrono>
#include <memory>

namespace gloo {

class Context {
 public:
  virtual ~Context();
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
