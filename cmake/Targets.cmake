include(GoogleTest)

# Code that no loop spends time in compiles at -O1, which takes a fifth less time than -O2.
set(RETROSPARSE_COLD_OPTIONS $<$<AND:$<CONFIG:Release>,$<COMPILE_LANGUAGE:CXX>>:-O1>)

# retrosparse_library(NAME SOURCES... DEPENDS targets... [TORCH] [COLD])
#   The static library retrosparse_NAME of folder src/NAME. TORCH: links libtorch and uses its precompiled header
#   (src/torch_pch.h). COLD: only calls what takes time.
function(retrosparse_library name)
  cmake_parse_arguments(arg "TORCH;COLD" "" "DEPENDS" ${ARGN})
  add_library(retrosparse_${name} STATIC ${arg_UNPARSED_ARGUMENTS})
  target_include_directories(retrosparse_${name} PUBLIC "${CMAKE_SOURCE_DIR}/src")
  target_link_libraries(retrosparse_${name} PUBLIC ${arg_DEPENDS} PRIVATE retrosparse_warnings)
  if(arg_COLD)
    target_compile_options(retrosparse_${name} PRIVATE ${RETROSPARSE_COLD_OPTIONS})
  endif()
  if(arg_TORCH)
    target_link_libraries(retrosparse_${name} PUBLIC retrosparse::torch)
    retrosparse_precompile(retrosparse_${name})
  endif()
endfunction()

# The one precompiled header: compiled once, used by every target with TORCH. It pays from the first file on.
file(CONFIGURE OUTPUT torch_pch.cpp CONTENT "")  # touches the file only when it changes
add_library(retrosparse_torch_pch OBJECT "${CMAKE_BINARY_DIR}/torch_pch.cpp")
target_link_libraries(retrosparse_torch_pch PRIVATE retrosparse::torch retrosparse::fmt nlohmann_json::nlohmann_json retrosparse_warnings)
target_precompile_headers(retrosparse_torch_pch PRIVATE "${CMAKE_SOURCE_DIR}/src/torch_pch.h")

# retrosparse_precompile(TARGET): lets the target use it.
function(retrosparse_precompile target)
  target_precompile_headers(${target} REUSE_FROM retrosparse_torch_pch)
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "EXECUTABLE")  # the header serves one kind of code only: -fPIC, as in the libraries
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
  endif()
endfunction()

# retrosparse_test(NAME SOURCES... DEPENDS targets... [TORCH]): the GoogleTest binary NAME_test, found by ctest.
function(retrosparse_test name)
  cmake_parse_arguments(arg "TORCH" "" "DEPENDS" ${ARGN})
  add_executable(${name}_test ${arg_UNPARSED_ARGUMENTS})
  target_include_directories(${name}_test PRIVATE "${CMAKE_SOURCE_DIR}/tests")
  target_link_libraries(${name}_test PRIVATE ${arg_DEPENDS} GTest::gtest GTest::gtest_main Threads::Threads retrosparse_warnings)
  target_compile_options(${name}_test PRIVATE ${RETROSPARSE_COLD_OPTIONS})
  target_compile_definitions(${name}_test PRIVATE RETROSPARSE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  if(arg_TORCH)
    retrosparse_precompile(${name}_test)
  endif()
  # ctest runs tests side by side: one thread each.
  gtest_discover_tests(${name}_test TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST
                       PROPERTIES ENVIRONMENT OMP_NUM_THREADS=1)
endfunction()

# retrosparse_embed(OUTPUT FUNCTION files...): a C++ file in the current binary folder that defines
#   std::span<const retrosparse::EmbeddedFile> retrosparse::FUNCTION()
# (base/embedded.h) with the names (without extension) and contents of the files.
function(retrosparse_embed output function)
  set(entries "")
  foreach(file ${ARGN})
    get_filename_component(name "${file}" NAME_WE)
    file(READ "${file}" content)
    string(APPEND entries "      EmbeddedFile{\"${name}\", R\"EMBEDDED(${content})EMBEDDED\"},\n")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
  endforeach()
  file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/${output}" CONTENT
"#include \"base/embedded.h\"

namespace retrosparse {

std::span<const EmbeddedFile> ${function}() {
  static constexpr EmbeddedFile kFiles[] = {
@entries@  };
  return kFiles;
}

}  // namespace retrosparse
" @ONLY)
endfunction()
