"""The fixtures of every test beside this file."""

from tests.vertex.bucket import bucket, emulator, unwell

__all__ = ["bucket", "emulator", "unwell"]
