# Fuzz targets: with clang (cmake --preset fuzz) on libFuzzer, which steers by coverage; with another compiler on a main()
# of our own, which mutates the seeds blindly. The target `fuzz` runs each of them for RETROSPARSE_FUZZ_SECONDS; a finding
# fails the build and leaves its input in the build folder.
set(RETROSPARSE_FUZZ_SECONDS 60 CACHE STRING "how long the target `fuzz` runs each fuzz target")
add_custom_target(fuzz)

# retrosparse_fuzz(NAME SOURCES... DEPENDS targets... [TORCH]): the fuzz target NAME_fuzz; see fuzz/fuzz.h. Seeds, where there are some, are the files in the folder seeds/NAME beside it.
function(retrosparse_fuzz name)
  cmake_parse_arguments(arg "TORCH" "" "DEPENDS" ${ARGN})
  add_executable(${name}_fuzz ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(${name}_fuzz PRIVATE ${arg_DEPENDS} retrosparse_warnings)
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name}_fuzz PRIVATE "${CMAKE_SOURCE_DIR}/fuzz/standalone.cpp")
  endif()
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
    COMMAND ${name}_fuzz -max_total_time=${RETROSPARSE_FUZZ_SECONDS} -timeout=10 -max_len=4096 -rss_limit_mb=2048 -verbosity=0
            -print_final_stats=1 "-artifact_prefix=${CMAKE_CURRENT_BINARY_DIR}/${name}-" "${corpus}" ${seeds}
    COMMENT "Fuzzing ${name} for ${RETROSPARSE_FUZZ_SECONDS} s" VERBATIM)
  add_dependencies(fuzz fuzz_${name})
endfunction()
