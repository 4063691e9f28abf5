#pragma once

namespace CLI {
class App;
}

namespace retrosparse::cli {

// Each adds its subcommand to the program; see the file of that name.
void add_inspect(CLI::App& app);
void add_plan(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_tasks(CLI::App& app);
void add_generate(CLI::App& app);

}  // namespace retrosparse::cli
