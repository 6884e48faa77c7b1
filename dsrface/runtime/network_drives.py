"""Whether a folder is on a drive that other machines may write to as well."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil

_NETWORK = frozenset(
    (
        *("9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre"),
        *("nfs", "nfs4", "ocfs2", "pvfs2", "smb3", "smbfs", "webdav"),
    )
)


def is_on_network(folder: Path) -> bool:
    """Return whether a folder's drive is one of the network, as far as the system says."""
    with contextlib.suppress(OSError, psutil.Error):
        place = folder.resolve()
        drives = [
            (len(Path(drive.mountpoint).parts), drive)
            for drive in psutil.disk_partitions(all=True)
            if place.is_relative_to(drive.mountpoint)
        ]
        if drives:
            _, drive = max(drives, key=lambda found: found[0])
            return (
                drive.fstype in _NETWORK
                or drive.fstype.startswith("fuse.")
                or "remote" in drive.opts.split(",")
            )
    return False
