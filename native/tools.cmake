# Read at the end of llama.cpp's CMakeLists.txt by the bench presets: adds the programs that benchmarks compare with to the
# build that makes the wheel's libraries. They link to those very libraries and are not installed, so the wheel stays as it is.

find_package(Threads REQUIRED)
llama_add_compile_flags()
foreach(folder IN ITEMS ui server batched-bench llama-bench)
  add_subdirectory(tools/${folder} EXCLUDE_FROM_ALL)
endforeach()
add_custom_target(fastinfer_tools ALL DEPENDS llama-server llama-batched-bench llama-bench)
