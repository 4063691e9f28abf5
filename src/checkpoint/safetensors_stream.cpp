#include "checkpoint/safetensors_stream.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "checkpoint/tensor_info.h"

namespace retrosparse {
namespace {

std::string header_text(const std::filesystem::path& path, const std::string& name, at::ScalarType dtype,
                        const std::vector<int64_t>& shape, const std::map<std::string, std::string>& metadata) {
  const std::optional<std::string_view> dtype_in_file = dtype_name(dtype);
  if (!dtype_in_file) {
    throw Error("safetensors has no such dtype").file(path.string()).tensor(name).found(c10::toString(dtype));
  }
  uint64_t bytes = c10::elementSize(dtype);
  for (const int64_t size : shape) {
    bytes *= static_cast<uint64_t>(size);
  }
  nlohmann::ordered_json header;
  if (!metadata.empty()) {
    header["__metadata__"] = metadata;
  }
  header[name] = {{"dtype", *dtype_in_file}, {"shape", shape}, {"data_offsets", {uint64_t{0}, bytes}}};
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  return text;
}

}  // namespace

SafetensorsStream::SafetensorsStream(const std::filesystem::path& path, const std::string& name, at::ScalarType dtype,
                                     std::vector<int64_t> shape, const std::map<std::string, std::string>& metadata)
    : file_(path), dtype_(dtype), shape_(std::move(shape)) {
  if (shape_.empty()) {
    throw std::logic_error("SafetensorsStream: a scalar has no rows");
  }
  const std::string header = header_text(path, name, dtype_, shape_, metadata);
  const uint64_t length = header.size();
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(header);
}

void SafetensorsStream::append(const at::Tensor& rows) {
  const at::IntArrayRef row_shape = at::IntArrayRef(shape_).slice(1);
  if (rows.dim() == 0 || rows.sizes().slice(1) != row_shape || rows.scalar_type() != dtype_ ||
      rows_written_ + rows.size(0) > shape_.front()) {
    throw std::logic_error(fmt::format("SafetensorsStream: rows {} do not belong into {} after {} of them",
                                       shape_text(rows.sizes()), shape_text(shape_), rows_written_));
  }
  const at::Tensor plain = rows.detach().cpu().contiguous();
  file_.write(std::span(static_cast<const std::byte*>(plain.const_data_ptr()), plain.nbytes()));
  rows_written_ += rows.size(0);
}

void SafetensorsStream::commit() {
  if (rows_written_ != shape_.front()) {
    throw std::logic_error(fmt::format("SafetensorsStream: {} of {} rows were written", rows_written_, shape_.front()));
  }
  file_.commit();
}

}  // namespace retrosparse
