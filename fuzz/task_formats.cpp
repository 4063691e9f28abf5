#include "tasks/task_formats.h"

#include "fuzz.h"

/// A file of tasks and the words that they are asked in.
RETROSPARSE_FUZZ_TARGET(bytes) {
  using namespace retrosparse;
  const TaskFormats formats = TaskFormats::parse(as_text(bytes), "tasks.yaml");
  fuzz_check(formats.keys.count() > 0, "there are keys");
  fuzz_check(!formats.keys.key(formats.keys.count() - 1).empty(), "every key is a name");
  for (const std::string& name : formats.task_names()) {
    (void)formats.task(name);
  }
  (void)fill_in(formats.needles.question, {{"k", "key"}});
}
