# SPDX-License-Identifier: MIT
"""What the main job's results are held against: zstd's decoder, the original file, and LZ4 on the same chunks."""
import ctypes
import pathlib
import shutil
import subprocess
import sys

PIECE_BYTES = 4 << 20


class Decoder:
    """Debian's zstd program, or libzstd where that is missing."""

    def __init__(self) -> None:
        self.program = shutil.which("zstd")
        self.library = None
        if self.program is None:
            try:
                self.library = ctypes.CDLL("libzstd.so.1")
            except OSError:
                sys.exit("main_job: neither the zstd program nor libzstd.so.1 is here: nothing can check the results")

    @property
    def name(self) -> str:
        return "zstd -d" if self.program else "libzstd's decoder (there is no zstd program here)"

    def pieces(self, path: pathlib.Path):
        if self.program:
            with subprocess.Popen([self.program, "-d", "-q", "-c", str(path)], stdout=subprocess.PIPE) as process:
                while piece := process.stdout.read(PIECE_BYTES):
                    yield piece
            if process.returncode != 0:
                raise ValueError(f"zstd -d refuses it (exit code {process.returncode})")
        else:
            yield from self.library_pieces(path.read_bytes())

    def library_pieces(self, packed: bytes):
        class Buffer(ctypes.Structure):
            _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t)]

        lib = self.library
        lib.ZSTD_createDStream.restype = ctypes.c_void_p
        lib.ZSTD_decompressStream.restype = ctypes.c_size_t
        lib.ZSTD_decompressStream.argtypes = [ctypes.c_void_p, ctypes.POINTER(Buffer), ctypes.POINTER(Buffer)]
        lib.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
        lib.ZSTD_isError.argtypes = [ctypes.c_size_t]
        stream = lib.ZSTD_createDStream()
        source = Buffer(ctypes.cast(ctypes.c_char_p(packed), ctypes.c_void_p), len(packed), 0)
        space = ctypes.create_string_buffer(PIECE_BYTES)
        wanted = 1
        try:
            while True:
                target = Buffer(ctypes.cast(space, ctypes.c_void_p), PIECE_BYTES, 0)
                wanted = lib.ZSTD_decompressStream(stream, ctypes.byref(target), ctypes.byref(source))
                if lib.ZSTD_isError(wanted):
                    raise ValueError("libzstd refuses it")
                if target.at:
                    yield space.raw[:target.at]
                # After the last frame another call would begin a new one; with nothing left to read or to write, one is cut off.
                if source.at == source.size and (wanted == 0 or not target.at):
                    break
        finally:
            lib.ZSTD_freeDStream(stream)
        if wanted != 0:
            raise ValueError("it ends in the middle of a frame")


def difference(original: pathlib.Path, packed: pathlib.Path, decoder: Decoder) -> str | None:
    """What is wrong with the decoded file, or None where it is the original byte for byte."""
    position = 0
    try:
        with open(original, "rb") as file:
            for piece in decoder.pieces(packed):
                if file.read(len(piece)) != piece:
                    return f"differs within the {len(piece)} bytes from {position} on"
                position += len(piece)
            if file.read(1):
                return f"ends after {position} bytes, the original does not"
    except (OSError, ValueError) as error:
        return str(error)
    return None


def lz4_bytes(files: list[pathlib.Path], chunk_bytes: int, progress) -> int | None:
    """What LZ4_compress_fast(1) makes of the same chunks, each stored where it would grow; None without liblz4."""
    try:
        library = ctypes.CDLL("liblz4.so.1")
    except OSError:
        return None
    space = ctypes.create_string_buffer(library.LZ4_compressBound(chunk_bytes))
    total = done = 0
    for path in files:
        with open(path, "rb") as file:
            while chunk := file.read(chunk_bytes):
                total += min(library.LZ4_compress_fast(chunk, space, len(chunk), len(space), 1), len(chunk))
                done += len(chunk)
                progress.show("LZ4", done)
    return total
