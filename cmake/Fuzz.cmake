# Fuzz targets: libFuzzer of clang, with the sanitizers (cmake --preset fuzz). The target `fuzz` runs each of them for
# RETROSPARSE_FUZZ_SECONDS; a finding fails the build and leaves its input in the build folder.
set(RETROSPARSE_FUZZ_SECONDS 60 CACHE STRING "how long the target `fuzz` runs each fuzz target")
if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "RETROSPARSE_FUZZ needs clang++ (libFuzzer); use: cmake --preset fuzz")
endif()
add_custom_target(fuzz)

# retrosparse_fuzz(NAME SOURCES... DEPENDS targets... [TORCH]): the fuzz target NAME_fuzz, which defines
# LLVMFuzzerTestOneInput. Seeds, where there are some, are the files in the folder seeds/NAME beside it.
function(retrosparse_fuzz name)
  cmake_parse_arguments(arg "TORCH" "" "DEPENDS" ${ARGN})
  add_executable(${name}_fuzz ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name}_fuzz PRIVATE ${arg_DEPENDS} retrosparse_warnings)
  target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
  if(arg_TORCH)
    retrosparse_precompile(${name}_fuzz)
  endif()
  set(corpus "${CMAKE_CURRENT_BINARY_DIR}/corpus/${name}")  # what a run finds is where the next one starts
  file(MAKE_DIRECTORY "${corpus}")
  set(seeds "${CMAKE_CURRENT_SOURCE_DIR}/seeds/${name}")
  if(NOT EXISTS "${seeds}")
    set(seeds "")
  endif()
  add_custom_target(fuzz_${name}
    COMMAND ${name}_fuzz -max_total_time=${RETROSPARSE_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=2048 -verbosity=0
            -print_final_stats=1 "-artifact_prefix=${CMAKE_CURRENT_BINARY_DIR}/${name}-" "${corpus}" ${seeds}
    COMMENT "Fuzzing ${name} for ${RETROSPARSE_FUZZ_SECONDS} s" VERBATIM)
  add_dependencies(fuzz fuzz_${name})
endfunction()
