#pragma once
#include <string>

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace retrosparse::cli {

/// What to tell somebody whose command line `app` refused with `error`: one line that names the argument, the nearest
/// one that exists, and where help is.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error);

}  // namespace retrosparse::cli
