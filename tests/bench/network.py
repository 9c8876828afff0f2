"""A network of the benchmark's own, in which clients have addresses that a name server can be asked about."""

import os
import sys

# Where smtp-source comes from: nobody asks a server for names of 127.0.0.0/8.
CLIENT = "192.0.2.7"


def own_network(*populations):
    """Starts this program anew in a network of its own, for which one must be root; False without that.

    In it every address of `populations` is one of this machine, to connect from.
    """
    if "BENCH_NETWORK" in os.environ:
        return True
    if os.geteuid() != 0:
        return False
    steps = ["ip link set lo up", f"ip addr add {CLIENT}/32 dev lo",
             f"ip route replace local 127.0.0.1 dev lo table local proto kernel scope host src {CLIENT}",
             *(f"ip route add local {network} dev lo" for network in populations), 'exec "$0" "$@"']
    os.environ["BENCH_NETWORK"] = "1"
    os.execvp("unshare", ["unshare", "--net", "sh", "-c", " && ".join(steps), sys.executable, *sys.argv])
