"""Numbers in words for people: counts and sizes, said in one way everywhere."""

from __future__ import annotations


def count_text(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 item` or `3 items`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size_text(num_bytes: float) -> str:
    """Return a number of bytes with the binary unit that docker, cgroups, `du -h` and nvidia-smi use."""
    size, unit = num_bytes, "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.1f} {unit}"
