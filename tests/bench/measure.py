"""What is measured: CPU time, memory and dropped connections of a server with all its processes.

The CPU time is that of a cgroup (v1 cpuacct or v2) of the server's own, which counts every process that it ever
had. Where no cgroup can be made it is summed from /proc, children that have been waited for included.
"""

import os
import pathlib
import signal
import time

TICK = os.sysconf("SC_CLK_TCK")


class Failed(SystemExit):
    """Something could not be measured, and why: the end, unless somebody catches it."""


class Cgroup:
    """A cgroup for one server; `folder` is None where none can be made."""

    def __init__(self, name, memory=None):
        """`memory`: how many bytes it may have, where that can be said."""
        self.folder, self.limits, self.memory = None, None, memory
        unique = f"qpsmtpd-bench-{os.getpid()}-{name}"
        for root, file in (("/sys/fs/cgroup/cpuacct", "cpuacct.usage"), ("/sys/fs/cgroup", "cpu.stat")):
            folder = pathlib.Path(root) / unique
            try:
                folder.mkdir()
            except OSError:
                continue
            if (folder / file).exists() and (folder / "cgroup.procs").exists():
                self.folder, self.file = folder, file
                break
            folder.rmdir()
        if memory and self.folder:
            self.limit(memory, unique)

    def limit(self, memory, unique):
        """Limits the memory: of v2 in the same folder, of v1 in one below our own, so that a limit of ours goes on."""
        if (self.folder / "memory.max").exists():
            self.limits = self.folder
            (self.folder / "memory.max").write_text(str(memory))
            return
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            folder = pathlib.Path("/sys/fs/cgroup/memory") / path.lstrip("/") / unique
            if "memory" in kinds.split(",") and os.access(folder.parent, os.W_OK):
                folder.mkdir()
                self.limits = folder
                (folder / "memory.limit_in_bytes").write_text(str(memory))

    def folders(self):
        return {folder for folder in (self.folder, self.limits) if folder}

    def enter(self):
        """Puts the calling process into it: what it becomes and what it starts is counted."""
        for folder in self.folders():
            (folder / "cgroup.procs").write_text("0")

    def cpu(self):
        """Seconds of CPU time so far."""
        text = (self.folder / self.file).read_text()
        if self.file == "cpuacct.usage":
            return int(text) / 1e9
        return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6

    def pids(self):
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]

    def full(self):
        """Whether it comes near its limit or, without one, the machine has little memory left."""
        if self.limits:
            used = self.limits / ("memory.current" if self.limits == self.folder else "memory.usage_in_bytes")
            return int(used.read_text()) > 0.9 * self.memory
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        has = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
        return has["MemAvailable"] < 0.2 * has["MemTotal"]

    def remove(self):
        """Ends what is left in it, and it."""
        until = time.monotonic() + 60
        while self.folder and (pids := self.pids()):
            for pid in pids:
                kill(pid, signal.SIGKILL)
            if time.monotonic() > until:
                raise Failed(f"bench: {len(pids)} processes of {self.folder.name} do not end")
            time.sleep(0.1)
        for folder in self.folders():
            while True:
                try:
                    folder.rmdir()
                    break
                except OSError:  # the last processes are still being taken out of it
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.05)


def can_limit():
    """Whether a server can be given a limit of memory."""
    probe = Cgroup("probe", 2**30)
    try:
        return probe.limits is not None
    finally:
        probe.remove()


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
