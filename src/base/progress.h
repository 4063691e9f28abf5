#pragma once
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <utility>

namespace retrosparse {

/// Where progress is shown, and the clock it goes by; replaced in tests.
struct ProgressOutput {
  std::ostream* stream;             // null: shows nothing
  bool is_terminal;                 // redraws one line instead of writing new ones
  std::function<double()> seconds;  // a clock that never goes back
  size_t columns = 0;  // longer lines are cut on a terminal, since a wrapped one cannot be redrawn; 0: never

  /// stderr; nothing where the log level hides information (--quiet).
  static ProgressOutput standard_error();
};

/// Shows how far a long piece of work is. On a terminal one line that is redrawn ten times a second at most,
///   profiling  12/64 documents  18%  0.8 documents/s  1 m 5 s left
/// elsewhere (a log file) such lines every ten seconds at most, and one at the end. Used from one thread.
class Progress {
 public:
  /// `total` units are to be done; 0 where that is not known, then neither share nor remaining time is shown.
  Progress(std::string label, int64_t total, std::string unit,
           ProgressOutput output = ProgressOutput::standard_error());

  /// Ends the line without claiming that the work was finished.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `n` more units are done.
  void advance(int64_t n = 1);

  /// A few words that follow the numbers from now on, as "loss 0.123".
  void note(std::string text) { note_ = std::move(text); }

  /// The work is done: shows the whole time and the mean rate, unless it took less than a second and was never shown.
  void finish();

 private:
  void show();
  void write_line(const std::string& text, bool last);

  std::string label_, unit_, note_;
  int64_t total_, done_ = 0;
  ProgressOutput output_;
  double start_, shown_at_;
  bool line_open_ = false;  // a terminal line without its end
  bool finished_ = false;
};

}  // namespace retrosparse
