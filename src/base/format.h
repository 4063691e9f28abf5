#pragma once
#include <cstdint>
#include <string>

namespace retrosparse {

/// Bytes with up to four digits and a binary unit: "512 B", "1.5 GiB", "15.3 MiB".
std::string format_bytes(double bytes);

/// A count with up to four digits and a decimal unit: "950", "12.8M", "30.5B" (billions), "1.2T".
std::string format_count(double count);

/// A duration in its two largest units: "0.8 s", "42 s", "3 m 20 s", "5 h 7 m", "2 d 4 h".
std::string format_duration(double seconds);

}  // namespace retrosparse
