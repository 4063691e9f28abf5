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
void add_convert(CLI::App& app);
void add_stages(CLI::App& app);  // profile, train, ...: one subcommand for each stage of convert
void add_recipe(CLI::App& app);
void add_bench(CLI::App& app);

}  // namespace retrosparse::cli
