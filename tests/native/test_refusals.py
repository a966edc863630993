"""What a native build cannot do is said once, plainly, before anything is compiled."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Set
from pathlib import Path

import pytest

posix = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for a CUDA toolkit is a shell script")
LIBRARIES = frozenset({"cudart", "cublas", "cuda"})


def without_cuda() -> str:
    """A definition that hides every CUDA toolkit of this machine from CMake."""
    folders = {Path(folder) for folder in os.environ["PATH"].split(os.pathsep) if (Path(folder) / "nvcc").exists()}
    folders |= {folder / "bin" for folder in Path("/usr/local").glob("cuda*")}
    return "-DCMAKE_IGNORE_PATH=" + ";".join(map(str, sorted(folders)))


def toolkit(folder: Path, version: str, libraries: Set[str] = LIBRARIES) -> Path:
    """A folder that looks like a CUDA toolkit of a version as long as its compiler is not used."""
    for name in ("bin/nvcc", "include/cuda_runtime.h", *(f"lib64/lib{library}.so" for library in libraries)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    nvcc = folder / "bin/nvcc"
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.0'\n", "utf-8")
    nvcc.chmod(0o755)
    return folder


def test_an_archive_with_other_content_is_refused_with_both_hashes(refusal, checkout, tmp_path):
    archive = tmp_path / "llama_cpp_python-0.3.36.tar.gz"
    archive.write_bytes(b"something else")
    message = refusal("--preset", "cpu", FASTINFER_LLAMA_SOURCE=str(archive))
    assert "is not llama-cpp-python 0.3.36 as published: its SHA-256 is" in message
    assert (checkout / "native/llama-cpp-python.sha256").read_text("utf-8").split()[0] in message


def test_an_archive_that_is_not_there_is_named(refusal, tmp_path):
    message = refusal("--preset", "cpu", FASTINFER_LLAMA_SOURCE=str(tmp_path / "gone.tar.gz"))
    assert "gone.tar.gz does not exist" in message
    assert "FASTINFER_LLAMA_SOURCE" in message


def test_a_folder_with_another_version_is_refused(refusal, tmp_path):
    (tmp_path / "llama_cpp").mkdir()
    (tmp_path / "llama_cpp/__init__.py").write_text('__version__ = "0.3.35"\n', "utf-8")
    (tmp_path / "vendor/llama.cpp").mkdir(parents=True)
    (tmp_path / "vendor/llama.cpp/CMakeLists.txt").touch()
    message = refusal("--preset", "cpu", FASTINFER_LLAMA_SOURCE=str(tmp_path))
    assert "does not hold llama-cpp-python 0.3.36 with its vendor/llama.cpp" in message


def test_without_a_network_the_message_says_how_to_bring_the_archive(refusal):
    message = refusal(
        "--preset", "cpu", FASTINFER_LLAMA_SOURCE="", PIP_NO_INDEX="1", PIP_FIND_LINKS="", PIP_CONFIG_FILE=os.devnull
    )
    assert "pip could not fetch llama-cpp-python 0.3.36" in message
    assert "FASTINFER_LLAMA_SOURCE=" in message


def test_a_missing_cuda_toolkit_is_named(refusal):
    message = refusal("--preset", "cuda-h100", without_cuda())
    assert "The CUDA toolkit is not here" in message
    assert "CUDAToolkit_ROOT=" in message


@posix
@pytest.mark.parametrize(
    ("version", "libraries", "said"),
    [
        ("12.4", LIBRARIES, "cannot compile for sm_100. Install CUDA 12.8 or newer"),
        ("12.8", LIBRARIES - {"cublas"}, "is here without its library cublas"),
    ],
    ids=["too old", "without cuBLAS"],
)
def test_a_cuda_toolkit_that_cannot_do_it_is_refused_with_its_version(refusal, tmp_path, version, libraries, said):
    folder = toolkit(tmp_path / "cuda", version, libraries)
    message = refusal("--preset", "cuda-blackwell", CUDAToolkit_ROOT=str(folder))
    assert f"CUDA {version}" in message
    assert said in message


@posix
def test_a_cuda_toolkit_is_held_only_to_the_architectures_of_the_target(refusal, tmp_path):
    folder = toolkit(tmp_path / "cuda", "12.4")
    message = refusal("--preset", "cuda-h100", CUDAToolkit_ROOT=str(folder))
    assert "an archive that no test fetches does not exist" in message


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has Metal")
def test_metal_is_refused_off_macos(refusal):
    assert "Metal is Apple's, and this is" in refusal("--preset", "metal")


@pytest.mark.skipif(shutil.which("glslc") is not None, reason="Vulkan's shader compiler is installed")
def test_missing_parts_of_vulkan_are_named_with_their_packages(refusal):
    message = refusal("--preset", "vulkan")
    assert "glslc and SPIRV-Headers are needed" in message


def test_a_configuration_without_a_preset_says_how_to_choose_one(refusal):
    assert "cmake --workflow --preset cpu" in refusal("-S", ".", "-B", "build/none/workflow")
