# What a target needs on this machine, checked before anything is fetched or compiled.

# The first CUDA toolkit that compiles for an architecture (NVIDIA's release notes); others are left to nvcc.
set(CUDA_FOR_80 11.0)
set(CUDA_FOR_89 11.8)
set(CUDA_FOR_90 11.8)
set(CUDA_FOR_100 12.8)
set(CUDA_FOR_120 12.8)

function(require_pip)
  if(NOT Python_FOUND)
    stop("No Python 3.10 or newer was found." "Activate an environment that has one, or name it: -DPython_EXECUTABLE=...")
  endif()
  execute_process(COMMAND ${Python_EXECUTABLE} -c "import pip" RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
  if(failed)
    stop("${Python_EXECUTABLE} has no pip, which builds the wheel." "Add it: ${Python_EXECUTABLE} -m ensurepip")
  endif()
endfunction()

function(require_macos)
  if(NOT CMAKE_HOST_SYSTEM_NAME STREQUAL "Darwin")
    stop("Metal is Apple's, and this is ${CMAKE_HOST_SYSTEM_NAME}." "Build the presets metal and bench-metal on macOS.")
  endif()
endfunction()

function(require_cuda)
  # What an earlier configuration found is forgotten: the toolkit may have been replaced since.
  get_cmake_property(names CACHE_VARIABLES)
  list(FILTER names INCLUDE REGEX "^(CUDA_|CUDAToolkit_(NVCC|BIN|INCLUDE|SENTINEL)_)")
  foreach(name IN LISTS names)
    unset(${name} CACHE)
  endforeach()
  find_package(CUDAToolkit QUIET)
  if(NOT CUDAToolkit_FOUND)
    stop("The CUDA toolkit is not here: no nvcc with its headers and libraries was found."
      "Install it, or name its folder in the environment: CUDAToolkit_ROOT=/usr/local/cuda-12.8")
  endif()
  foreach(library IN ITEMS cudart cublas cuda_driver)
    if(NOT TARGET CUDA::${library})
      stop("CUDA ${CUDAToolkit_VERSION} (${CUDAToolkit_NVCC_EXECUTABLE}) is here without its library ${library}."
        "Install the whole toolkit, cuBLAS among it; drivers alone are not enough to compile.")
    endif()
  endforeach()
  foreach(architecture IN LISTS CMAKE_CUDA_ARCHITECTURES)
    string(REGEX MATCH "^[0-9]+" number "${architecture}")
    if(CUDAToolkit_VERSION VERSION_LESS "${CUDA_FOR_${number}}")
      stop("CUDA ${CUDAToolkit_VERSION} (${CUDAToolkit_NVCC_EXECUTABLE}) cannot compile for sm_${number}."
        "Install CUDA ${CUDA_FOR_${number}} or newer, or name its folder in the environment: CUDAToolkit_ROOT=...")
    endif()
  endforeach()
  message(STATUS "CUDA ${CUDAToolkit_VERSION} (${CUDAToolkit_NVCC_EXECUTABLE}) for ${CMAKE_CUDA_ARCHITECTURES}")
endfunction()

function(require_vulkan)
  find_package(Vulkan QUIET COMPONENTS glslc)
  find_package(SPIRV-Headers QUIET CONFIG)
  if(NOT Vulkan_FOUND OR NOT SPIRV-Headers_FOUND)
    stop("Vulkan's loader with its headers, glslc and SPIRV-Headers are needed, and not all of them were found."
      "Install the Vulkan SDK, or on Debian and Ubuntu the packages libvulkan-dev, glslc and spirv-headers.")
  endif()
endfunction()
