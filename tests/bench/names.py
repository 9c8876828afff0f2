"""A name server for W7: NLnet Labs' nsd with three small zones, on an address of loopback that nobody else uses."""

import signal
import subprocess
import time

import measure
import place

ADDRESS = "127.83.77.7"
NSD = place.RIVALS / "usr/sbin/nsd"

ZONES = {
    "2.0.192.in-addr.arpa": "7 PTR client.example.net.\n",
    "example.net": "@ A 127.0.0.1\n@ MX 10 client\n@ TXT \"v=spf1 ip4:192.0.2.7 -all\"\nclient A 192.0.2.7\n",
    "example.com": "@ A 127.0.0.1\n@ MX 10 mx\nmx A 127.0.0.1\n",
}


class NameServer:
    """Answers while it is entered; `resolv` is the file that sends programs to it."""

    def __init__(self, zones=ZONES):
        self.zones = zones

    def __enter__(self):
        folder = place.fresh("names")
        for zone, records in self.zones.items():
            head = "$TTL 3600\n@ SOA ns.example.com. root.example.com. 1 3600 600 86400 60\n@ NS ns.example.com.\n"
            (folder / zone).write_text(head + records)
        zones = "".join(f"zone:\n  name: {zone}\n  zonefile: {zone}\n" for zone in self.zones)
        # it would answer no more than 200 a second to one address
        (folder / "nsd.conf").write_text(
            f"server:\n  ip-address: {ADDRESS}\n  server-count: 1\n  rrl-ratelimit: 0\n  username: root\n"
            "  chroot: \"\"\n  database: \"\"\n"
            f"  zonesdir: {folder}\n  pidfile: \"\"\n  xfrdfile: {folder}/xfrd\n  zonelistfile: {folder}/list\n"
            f"  xfrdir: {folder}\nremote-control:\n  control-enable: no\n{zones}")
        self.resolv = folder / "resolv.conf"
        self.resolv.write_text(f"nameserver {ADDRESS}\noptions timeout:2\n")
        self.log = open(folder / "output", "wb")
        command = [NSD, "-d", "-c", folder / "nsd.conf"]
        environment = dict(place.our_environment(), LD_LIBRARY_PATH=str(place.RIVALS / "usr/lib/x86_64-linux-gnu"))
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        until = time.monotonic() + 10
        while "nsd started" not in (folder / "output").read_text():
            if self.process.poll() is not None or time.monotonic() > until:
                raise measure.Failed(f"bench: nsd does not start, see {folder}/output")
            time.sleep(0.05)
        return self

    def __exit__(self, *why):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        self.log.close()
