# `ninja lint`: formatting and static analysis of everything that git tracks.
add_custom_target(lint COMMAND "${CMAKE_SOURCE_DIR}/tools/lint" "${CMAKE_BINARY_DIR}" USES_TERMINAL VERBATIM)
