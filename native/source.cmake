# llama-cpp-python's source distribution: which one, where it comes from, and what is changed in it.

# The version is the lower bound that pyproject.toml gives; llama-cpp-python.sha256 has the archive's name and hash.
file(STRINGS "${CMAKE_SOURCE_DIR}/pyproject.toml" bound REGEX "\"llama-cpp-python>=")
string(REGEX REPLACE ".*>=([0-9.]+).*" "\\1" FASTINFER_LLAMA_VERSION "${bound}")

# Lays the sources out afresh in `folder`: llama-cpp-python installs its libraries into the folder that it is built from
# and packs whatever lies there, so builds never share one.
function(prepare_source folder)
  file(REMOVE_RECURSE "${folder}" "${folder}.part")
  if(IS_DIRECTORY "${FASTINFER_LLAMA_SOURCE}")
    check_version("${FASTINFER_LLAMA_SOURCE}")
    file(COPY "${FASTINFER_LLAMA_SOURCE}/" DESTINATION "${folder}" PATTERN "llama_cpp/lib" EXCLUDE)
  else()
    set(archive "${FASTINFER_LLAMA_SOURCE}")
    if(NOT archive)
      download(archive)
    endif()
    check_hash("${archive}")
    file(ARCHIVE_EXTRACT INPUT "${archive}" DESTINATION "${folder}.part")
    file(RENAME "${folder}.part/llama_cpp_python-${FASTINFER_LLAMA_VERSION}" "${folder}")
    file(REMOVE_RECURSE "${folder}.part")
  endif()

  # The local version goes into the package's metadata; its code is compiled as it came.
  file(READ "${folder}/pyproject.toml" project)
  set(table "[tool.scikit-build.metadata.version]\n")
  string(REPLACE "${table}" "${table}result = \"{value}+${FASTINFER_VARIANT}\"\n" project "${project}")
  file(WRITE "${folder}/pyproject.toml" "${project}")
  if(FASTINFER_TOOLS)
    file(APPEND "${folder}/vendor/llama.cpp/CMakeLists.txt" "\ninclude([=[${CMAKE_CURRENT_SOURCE_DIR}/tools.cmake]=])\n")
  endif()
endfunction()

# pip fetches, so that its configuration holds: mirrors, proxies, certificates.
function(download result)
  set(folder "${CMAKE_SOURCE_DIR}/build/downloads")
  set(archive "${folder}/llama_cpp_python-${FASTINFER_LLAMA_VERSION}.tar.gz")
  if(NOT EXISTS "${archive}")
    message(STATUS "Fetching the sources of llama-cpp-python ${FASTINFER_LLAMA_VERSION}, 77 MB")
    separate_arguments(options NATIVE_COMMAND "${FASTINFER_PIP_OPTIONS}")
    execute_process(
      COMMAND ${Python_EXECUTABLE} -m pip download --quiet --no-deps --no-binary llama-cpp-python ${options}
        --dest "${folder}" "llama-cpp-python==${FASTINFER_LLAMA_VERSION}"
      ERROR_VARIABLE output RESULT_VARIABLE failed OUTPUT_QUIET)
    if(failed OR NOT EXISTS "${archive}")
      stop("pip could not fetch llama-cpp-python ${FASTINFER_LLAMA_VERSION}:\n${output}"
        "Or fetch its source archive elsewhere and name it in the environment: FASTINFER_LLAMA_SOURCE=/path/to/archive")
    endif()
  endif()
  set(${result} "${archive}" PARENT_SCOPE)
endfunction()

function(check_hash archive)
  if(NOT EXISTS "${archive}")
    stop("${archive} does not exist."
      "Name llama-cpp-python's source archive or its unpacked folder in FASTINFER_LLAMA_SOURCE, or leave it empty.")
  endif()
  file(READ "${CMAKE_CURRENT_SOURCE_DIR}/llama-cpp-python.sha256" pinned)
  if(NOT pinned MATCHES "^([0-9a-f]+)  llama_cpp_python-${FASTINFER_LLAMA_VERSION}.tar.gz\n$")
    stop("native/llama-cpp-python.sha256 has no hash of version ${FASTINFER_LLAMA_VERSION}, which pyproject.toml asks for."
      "Write it there, as sha256sum prints it.")
  endif()
  set(expected "${CMAKE_MATCH_1}")
  file(SHA256 "${archive}" found)
  if(NOT found STREQUAL expected)
    stop("${archive} is not llama-cpp-python ${FASTINFER_LLAMA_VERSION} as published: its SHA-256 is ${found}, not ${expected}."
      "Delete it and fetch it again.")
  endif()
endfunction()

function(check_version folder)
  set(found "")
  if(EXISTS "${folder}/llama_cpp/__init__.py" AND EXISTS "${folder}/vendor/llama.cpp/CMakeLists.txt")
    file(STRINGS "${folder}/llama_cpp/__init__.py" found REGEX "^__version__")
  endif()
  if(NOT found STREQUAL "__version__ = \"${FASTINFER_LLAMA_VERSION}\"")
    stop("${folder} does not hold llama-cpp-python ${FASTINFER_LLAMA_VERSION} with its vendor/llama.cpp."
      "Name its source archive or the folder that was unpacked from it in FASTINFER_LLAMA_SOURCE, or leave it empty.")
  endif()
endfunction()
