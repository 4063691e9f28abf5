#include "checkpoint/safetensors_stream.h"

#include <fmt/format.h>

#include <span>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/tensor_info.h"

namespace retrosparse {

SafetensorsStream::SafetensorsStream(const std::filesystem::path& path, const std::string& name, at::ScalarType dtype,
                                     std::vector<int64_t> shape, const std::map<std::string, std::string>& metadata)
    : file_(path), dtype_(dtype), shape_(std::move(shape)) {
  if (shape_.empty()) {
    throw std::logic_error("SafetensorsStream: a scalar has no rows");
  }
  if (!dtype_name(dtype)) {
    throw Error("safetensors has no such dtype").file(path.string()).tensor(name).found(c10::toString(dtype));
  }
  TensorInfo info{name, dtype, shape_, 0, 0};
  info.end = static_cast<uint64_t>(info.numel()) * c10::elementSize(dtype);
  file_.write(safetensors_header_bytes(std::span(&info, 1), metadata));
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
