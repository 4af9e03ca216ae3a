"""The fixtures of every test beside this file."""

from tests.vertex.bucket import bucket, emulator

__all__ = ["bucket", "emulator"]
