# Everything else comes from Debian; tools/setup installs it.
find_package(Threads REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
if(RETROSPARSE_TESTS)
  find_package(GTest REQUIRED)
endif()

# retrosparse_dependency(NAME HEADER ARCHIVE): an imported static library, so that the binary runs where Debian's
# shared one is not installed.
function(retrosparse_dependency name header archive)
  find_path(${name}_INCLUDE ${header} REQUIRED)
  find_library(${name}_ARCHIVE NAMES ${archive} REQUIRED)
  add_library(dep::${name} STATIC IMPORTED GLOBAL)
  set_target_properties(dep::${name} PROPERTIES IMPORTED_LOCATION "${${name}_ARCHIVE}")
endfunction()
retrosparse_dependency(yaml yaml-cpp/yaml.h libyaml-cpp.a)
retrosparse_dependency(pcre2 pcre2.h libpcre2-8.a)
retrosparse_dependency(utf8proc utf8proc.h libutf8proc.a)
retrosparse_dependency(lzma lzma.h liblzma.a)
retrosparse_dependency(zstd zstd.h libzstd.a)
retrosparse_dependency(zlib zlib.h libz.a)
set_property(TARGET dep::utf8proc APPEND PROPERTY INTERFACE_COMPILE_DEFINITIONS UTF8PROC_STATIC)
