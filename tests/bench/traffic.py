"""All clients of one server of the soak: so many sessions per second, drawn from all kinds; how they ended is counted."""

import collections
import json
import random
import signal
import ssl
import threading
import time

import mischief
import visitors
from client import PATIENCE, Gone, Ledger

KINDS = visitors.kind + mischief.kind


class Site:
    """What the clients of one server share."""

    def __init__(self, folder, name, ports, go, present):
        self.ports, self.session, self.go, self.present = ports, None, go, present
        self.ledger = Ledger(folder / "ledger", name)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.lock = threading.Lock()
        self.outcomes, self.remarks = collections.Counter(), collections.Counter()

    def come(self):
        """Whether a client may come; whoever may is present until `leave`."""
        with self.present.get_lock():
            self.present.value += (may := self.go.is_set())
        return may

    def leave(self):
        with self.present.get_lock():
            self.present.value -= 1

    def one(self, function):
        """One client; how it ended is counted."""
        try:
            outcome = function(self)
        except Gone:
            outcome = "closed on"
        except TimeoutError:
            outcome = "no answer"
        except (OSError, ssl.SSLError) as e:
            outcome = type(e).__name__
            with self.lock:
                self.remarks[f"{function.__name__}: {e}"[:200]] += 1
        except Exception as e:
            outcome = "fault"
            with self.lock:
                self.remarks[f"{function.__name__}: {type(e).__name__}: {e}"[:200]] += 1
        with self.lock:
            self.outcomes[f"{function.__name__}: {outcome}"] += 1


def crowd_of(site, slow, rate, threads, over):
    """Threads that are clients of the quick or of the slow kinds, so many sessions per second."""
    functions = [function for function, _, is_slow in KINDS if is_slow == slow]
    weights = [weight for _, weight, is_slow in KINDS if is_slow == slow]

    def be():
        while not over.is_set():
            if not site.go.is_set():
                time.sleep(0.1)
                continue
            time.sleep(random.expovariate(rate / threads))
            if site.come():
                site.one(random.choices(functions, weights)[0])
                site.leave()
    return [threading.Thread(target=be, daemon=True) for _ in range(threads)]


def run(folder, name, ports, rate, go, present, over):
    """The process of all clients of one server, until `over`: they come while `go` is set, and `present` is how many
    there are. Leaves `outcomes` in the folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    site = Site(folder, name, ports, go, present)
    threads = crowd_of(site, False, rate, 10, over) + crowd_of(site, True, 2, 6, over)
    for thread in threads:
        thread.start()
    over.wait()
    until = time.monotonic() + 2 * PATIENCE
    for thread in threads:
        # a client that waits for ever would be a finding, too
        thread.join(max(0, until - time.monotonic()))
    stuck = sum(thread.is_alive() for thread in threads)
    report = {"outcomes": site.outcomes, "remarks": site.remarks, "stuck": stuck}
    (folder / "outcomes").write_text(json.dumps(report))
