# SPDX-License-Identifier: MIT
# Installs the headers and the CMake package cuda_zstd_memory_pool with the target cuda_zstd::memory_pool; the library
# itself is installed, into the export set, where it is defined.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/cuda_zstd_memory_pool)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp" PATTERN "*.cuh")
install(EXPORT cuda_zstd_memory_pool_targets NAMESPACE cuda_zstd:: DESTINATION ${package_folder})

configure_package_config_file(${PROJECT_SOURCE_DIR}/src/package_config.cmake.in
    ${CMAKE_CURRENT_BINARY_DIR}/cuda_zstd_memory_pool-config.cmake INSTALL_DESTINATION ${package_folder})
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/cuda_zstd_memory_pool-config-version.cmake
    VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cuda_zstd_memory_pool-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/cuda_zstd_memory_pool-config-version.cmake
              DESTINATION ${package_folder})
