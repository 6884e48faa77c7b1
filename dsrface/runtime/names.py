r"""Names that every system can hold: any text to a file name, and back.

Windows refuses `<>:"/\|?*`, control characters, a dot or a blank at the end, and its devices' names (`CON`,
`nul.txt`); Linux and macOS limit a name to 255 bytes; a leading dot hides a file. What one of them refuses is
written as its bytes in `%XX`, as in a web address, so nothing is lost and no two texts get one name.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

MAX_BYTES = 200  # of the 255 that file systems take: suffixes and temporary names need some
_REFUSED = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]|%(?=[0-9A-F]{2})|\A[ .]|[ .]\Z')
_ESCAPE = re.compile("(?:%[0-9A-F]{2})+")
# Devices of Windows, with any suffix; superscripts count as digits (as in CPython's ntpath).
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[1-9¹²³])[ ]*(?:\.|$)", re.IGNORECASE)


def portable_name(text: str) -> str:
    """Return a file name for a text; `original_name` gives the text back unless it was cut for its length.

    A text that is too long is cut and ends in a digest of the whole, so that two of them stay apart.
    """
    name = _REFUSED.sub(lambda found: _escaped(found[0]), text) or "_"
    if _DEVICE.match(name):
        name = _escaped(name[0]) + name[1:]
    if len(name.encode()) <= MAX_BYTES:
        return name
    digest = hashlib.sha256(_bytes_of(text)).hexdigest()[:12]
    return f"{cut_to_bytes(name, MAX_BYTES - 13).rstrip(' .')}~{digest}"


def original_name(name: str) -> str:
    """Return the text that `portable_name` made a name of."""
    return _ESCAPE.sub(
        lambda found: bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "surrogateescape"), name
    )


def same_file_key(name: str) -> str:
    """Return what two names have in common that some system takes for one file: case and composed accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def cut_to_bytes(name: str, num_bytes: int) -> str:
    """Return the longest start of a name that takes so many bytes, with no character or escape cut."""
    start = _bytes_of(name)[:num_bytes].decode("utf-8", "ignore")
    return re.sub("%[0-9A-F]?$", "", start)


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in _bytes_of(character))


def _bytes_of(text: str) -> bytes:
    try:
        return text.encode(
            "utf-8", "surrogateescape"
        )  # a name of Linux that is no UTF-8 gives back its bytes
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")  # half a character, which Windows allows in names
