"""cgroup limits from fixture trees."""

from __future__ import annotations

import pytest

from dsrface.runtime import resources

V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


@pytest.fixture
def tree(tmp_path):
    def build(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return build


def v2(tree, path="/", **files):
    content = {"proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": V2_MOUNT}
    return tree(content | {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("50000 100000\n", 0.5),
        ("max 100000\n", None),
        ("400000 100000\n", 4.0),
        ("", None),
        ("garbage\n", None),
    ],
)
def test_v2_quota(tree, text, quota):
    assert resources.cpu_quota(root=v2(tree, **{"cpu.max": text})) == quota


def test_v2_quota_of_an_ancestor_counts(tree):
    files = {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n", "cpu.max": "800000 100000\n"}
    assert resources.cpu_quota(root=v2(tree, "/a/b", **files)) == 1.5


def test_v2_path_outside_of_the_namespace_falls_back_to_the_mount(tree):
    assert resources.cpu_quota(root=v2(tree, "/../../elsewhere", **{"cpu.max": "300000 100000\n"})) == 3.0


def test_v1_quota_through_the_mount_root_of_a_container(tree):
    root = tree(
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n5:memory:/docker/abc\n",
            "proc/self/mountinfo": (
                "32 31 0:29 /docker/abc /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
                "33 31 0:30 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            ),
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "700000\n",
            "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 100000\n",
            "proc/meminfo": "MemAvailable: 8000000 kB\n",
        }
    )
    assert resources.cpu_quota(root=root) == 2.5
    memory = resources.memory_limit(root=root)
    assert (memory.limit_bytes, memory.available_bytes) == (1_000_000, 400_000)
    assert "cgroup" in memory.reason


def test_v1_without_a_quota_or_a_limit(tree):
    root = tree(
        {
            "proc/self/cgroup": "4:cpu:/\n5:memory:/\n",
            "proc/self/mountinfo": (
                "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
            ),
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "proc/meminfo": "MemAvailable: 1000 kB\n",
        }
    )
    assert resources.cpu_quota(root=root) is None
    assert resources.memory_limit(root=root) == resources.Memory(
        1_024_000, None, "free memory of the machine"
    )


def test_v2_memory_and_oom_kills(tree):
    files = {
        "memory.max": "2000\n",
        "memory.current": "1500\n",
        "memory.stat": "inactive_file 300\n",
        "memory.events": "low 0\noom_kill 2\n",
    }
    root = v2(tree, **files)
    (root / "proc/meminfo").write_text("MemAvailable: 1000 kB\n")
    assert resources.memory_limit(root=root).available_bytes == 800
    assert resources.oom_kills(root=root) == 2


def test_effective_cores_takes_the_smallest_and_divides(tree):
    root = v2(tree, **{"cpu.max": "50000 100000\n"})
    cores = resources.effective_cores(root=root, environ={})
    assert (cores.quota, cores.effective) == (0.5, 1)
    assert "quota" in cores.reason
    roomy = v2(tree, **{"cpu.max": "max 100000\n"})
    host = resources.effective_cores(root=roomy, environ={}).effective
    assert resources.effective_cores(root=roomy, environ={"SLURM_CPUS_PER_TASK": "1"}).effective == 1
    shared = resources.effective_cores(root=roomy, environ={"LOCAL_WORLD_SIZE": "2"})
    assert shared.effective == max(1, host // 2)
    assert "2 processes" in shared.reason
    assert (
        resources.effective_cores(root=roomy, world_size=1, environ={"LOCAL_WORLD_SIZE": "9"}).world_size == 1
    )


def test_nothing_to_read_is_no_limit(tmp_path):
    assert resources.cpu_quota(root=tmp_path) is None
    assert resources.cgroup_folders("cpu", root=tmp_path) == []
    assert resources.cpu_pressure(root=tmp_path) is None
