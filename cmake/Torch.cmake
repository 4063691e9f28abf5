# retrosparse::torch: the libtorch inside a torch pip wheel, as hand-written imported targets.
# find_package(Torch) is not used: it fails without a CUDA toolkit and rewrites the CUDA flags.
set(RETROSPARSE_PYTHON "" CACHE FILEPATH "the Python whose torch wheel is used (default: .venv, then python3)")
if(NOT RETROSPARSE_PYTHON)
  if(EXISTS "${CMAKE_SOURCE_DIR}/.venv/bin/python")
    set(RETROSPARSE_PYTHON "${CMAKE_SOURCE_DIR}/.venv/bin/python")
  else()
    find_program(RETROSPARSE_SYSTEM_PYTHON python3 REQUIRED)
    set(RETROSPARSE_PYTHON "${RETROSPARSE_SYSTEM_PYTHON}")
  endif()
endif()
if(NOT RETROSPARSE_TORCH_DIR)
  # find_spec does not import torch, so the wheel's NVIDIA libraries need not be installed.
  execute_process(COMMAND "${RETROSPARSE_PYTHON}" -c
    "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
    OUTPUT_VARIABLE torch_dir OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
  if(failed)
    message(FATAL_ERROR "No torch package in ${RETROSPARSE_PYTHON}; run tools/setup or set -DRETROSPARSE_TORCH_DIR=.../site-packages/torch")
  endif()
  set(RETROSPARSE_TORCH_DIR "${torch_dir}" CACHE PATH "the folder of the torch package (site-packages/torch)")
endif()
file(STRINGS "${RETROSPARSE_TORCH_DIR}/version.py" torch_version REGEX "^__version__")
if(NOT torch_version MATCHES "'2\\.11\\.")
  message(FATAL_ERROR "RetroSparse is written for torch 2.11; ${RETROSPARSE_TORCH_DIR} has ${torch_version}")
endif()

get_filename_component(site_packages "${RETROSPARSE_TORCH_DIR}" DIRECTORY)
file(GLOB nvidia_lib_dirs LIST_DIRECTORIES true "${site_packages}/nvidia/*/lib")
foreach(library c10 torch_cpu torch_cuda c10_cuda)
  add_library(wheel::${library} SHARED IMPORTED)
  set_target_properties(wheel::${library} PROPERTIES IMPORTED_LOCATION "${RETROSPARSE_TORCH_DIR}/lib/lib${library}.so")
endforeach()
add_library(wheel::gomp SHARED IMPORTED)
set_target_properties(wheel::gomp PROPERTIES IMPORTED_LOCATION "${RETROSPARSE_TORCH_DIR}/lib/libgomp.so.1")

add_library(retrosparse_torch INTERFACE)
add_library(retrosparse::torch ALIAS retrosparse_torch)
target_include_directories(retrosparse_torch SYSTEM INTERFACE
  "${RETROSPARSE_TORCH_DIR}/include" "${RETROSPARSE_TORCH_DIR}/include/torch/csrc/api/include")
target_compile_definitions(retrosparse_torch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO)
target_link_libraries(retrosparse_torch INTERFACE wheel::torch_cpu wheel::c10 wheel::gomp)
# at::parallel_for is a template that silently runs on one thread unless the file is compiled with OpenMP. The wheel's
# own libgomp is linked, so that our threads and libtorch's are one pool.
target_compile_options(retrosparse_torch INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fopenmp>)
foreach(dir ${nvidia_lib_dirs} "${RETROSPARSE_TORCH_DIR}/lib")  # where ld finds what libtorch itself needs
  target_link_options(retrosparse_torch INTERFACE "LINKER:-rpath-link,${dir}")
endforeach()

if(RETROSPARSE_WITH_CUDA)
  add_library(wheel::cudart SHARED IMPORTED)
  set_target_properties(wheel::cudart PROPERTIES IMPORTED_LOCATION "${site_packages}/nvidia/cu13/lib/libcudart.so.13")
  target_compile_definitions(retrosparse_torch INTERFACE RETROSPARSE_WITH_CUDA=1 USE_C10D_NCCL)
  target_include_directories(retrosparse_torch SYSTEM INTERFACE
    "${site_packages}/nvidia/nccl/include" ${CUDAToolkit_INCLUDE_DIRS})
  # torch_cuda registers its kernels when it is loaded; no symbol of it need be referenced, so it must be kept.
  target_link_libraries(retrosparse_torch INTERFACE
    "-Wl,--push-state,--no-as-needed" wheel::torch_cuda wheel::c10_cuda "-Wl,--pop-state" wheel::cudart)
endif()

# retrosparse::fmt: the {fmt} whose headers the wheel bundles (Debian 12's g++ has no <format>), compiled once.
add_library(retrosparse_fmt STATIC "${CMAKE_SOURCE_DIR}/third_party/fmt/format.cpp")
add_library(retrosparse::fmt ALIAS retrosparse_fmt)
target_include_directories(retrosparse_fmt SYSTEM PUBLIC "${RETROSPARSE_TORCH_DIR}/include")
