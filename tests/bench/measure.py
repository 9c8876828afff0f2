"""What is measured: CPU time, memory and dropped connections of a server with all its processes.

The CPU time is that of a cgroup (v1 cpuacct or v2) of the server's own, which counts every process that it ever
had. Where no cgroup can be made it is summed from /proc, children that have been waited for included.
"""

import os
import pathlib
import signal
import time

TICK = os.sysconf("SC_CLK_TCK")


class Cgroup:
    """A cgroup for one server; `folder` is None where none can be made."""

    def __init__(self, name):
        self.folder = None
        for root, file in (("/sys/fs/cgroup/cpuacct", "cpuacct.usage"), ("/sys/fs/cgroup", "cpu.stat")):
            folder = pathlib.Path(root) / f"qpsmtpd-bench-{os.getpid()}-{name}"
            try:
                folder.mkdir()
            except OSError:
                continue
            if (folder / file).exists() and (folder / "cgroup.procs").exists():
                self.folder, self.file = folder, file
                return
            folder.rmdir()

    def enter(self):
        """Puts the calling process into it: what it becomes and what it starts is counted."""
        if self.folder:
            (self.folder / "cgroup.procs").write_text("0")

    def cpu(self):
        """Seconds of CPU time so far."""
        text = (self.folder / self.file).read_text()
        if self.file == "cpuacct.usage":
            return int(text) / 1e9
        return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6

    def pids(self):
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]

    def remove(self):
        """Ends what is left in it, and it."""
        if not self.folder:
            return
        for pause in (0.1, 0.2, 0.5, 1, 2):
            pids = self.pids()
            if not pids:
                break
            for pid in pids:
                kill(pid, signal.SIGKILL)
            time.sleep(pause)
        self.folder.rmdir()


def kill(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def stat(pid):
    """(parent, seconds of CPU time with those of waited-for children), or None for a process that is gone."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), sum(int(field) for field in fields[11:15]) / TICK


class Tree:
    """The processes below one, where there is no cgroup."""

    def __init__(self, root):
        self.root = root

    def pids(self):
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (found := stat(entry)):
                parents.setdefault(found[0], []).append(int(entry))
        found, ahead = [], [self.root]
        while ahead:
            found.append(ahead.pop())
            ahead += parents.get(found[-1], [])
        return found

    def cpu(self):
        return sum(found[1] for pid in self.pids() if (found := stat(pid)))


def pss(pids):
    """Memory of processes in KiB, shared pages counted in proportion."""
    total = 0
    for pid in pids:
        try:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def listen_drops():
    """How often the kernel has dropped a connection because a backlog was full, since it started."""
    names, values = [], []
    for line in pathlib.Path("/proc/net/netstat").read_text().splitlines():
        if line.startswith("TcpExt:"):
            names, values = values, line.split()[1:]
    found = dict(zip(names, values))
    return int(found.get("ListenOverflows", 0)) + int(found.get("ListenDrops", 0))


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def spread(values):
    """Half the distance between the largest and the smallest, in percent of the median."""
    middle = median(values)
    return (max(values) - min(values)) / 2 / middle * 100 if middle else 0
