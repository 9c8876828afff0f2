"""Where things are, and a folder with a configuration of our daemon to measure."""

import os
import pathlib
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
# Everything that is made for measurements lies here.
WORK = TOP / "target" / "bench"
# The rivals' packages, unpacked by `fetch`.
RIVALS = TOP / "target" / "real" / "root"

CORE = ["hosts_allow", "relay", "rcpt_ok"]
# What a public server would ask besides, in the order of the sample in config/plugins.
CHAIN = ["hosts_allow", "quit_fortune", "earlytalker wait 0", "count_unrecognized_commands 4", "relay",
         "auth/auth_flat_file", "auth/authdeny", "dont_require_anglebrackets", "badmailfrom reject naughty",
         "badmailfromto", "badrcptto", "rcpt_ok", "loop", "naughty reject data"]
QUEUES = {"discard": "queue/discard", "maildir": "queue/maildir ./Maildir"}


def program(name):
    """A program of ours: from $QPSMTPD_BIN, else the release build."""
    folder = os.environ.get("QPSMTPD_BIN")
    return str((pathlib.Path(folder) if folder else TOP / "target" / "release") / name)


def fresh(name):
    """An empty folder that anybody may enter and use, for the servers give up root."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    return folder


def qpsmtpd_folder(queue, plugins=None, name=None):
    """A folder with config/ as the goals want it: the core plugins and one queue plugin."""
    folder = fresh(name or f"qpsmtpd-{queue}")
    config = folder / "config"
    config.mkdir()
    files = {
        "plugins": "\n".join((plugins or CORE) + [QUEUES[queue]]) + "\n",
        "me": "mx.example.com\n",
        "rcpthosts": "example.com\n",
        "relayclients": "192.0.2.1\n",
        "hosts_allow": "",
        "spool_dir": f"{folder}/spool\n",
        "max_transactions": "0\n",
    }
    for file, text in files.items():
        (config / file).write_text(text)
    return folder


MANY = range(1000)
# Who is refused by a server that checks.
SENDERS = [f"spammer{n}@bad{n}.example.org" for n in MANY]
RECIPIENTS = [f"gone{n}@example.com" for n in MANY]
CLIENTS = [f"198.51.{n // 250}.{n % 250}" for n in MANY]


def fill_lists(config):
    """Lists as a site has them, for CHAIN: a thousand entries each."""
    lists = {
        "badmailfrom": SENDERS,
        "badrcptto": RECIPIENTS,
        "badmailfromto": [f"ex{n}@example.org box{n}@example.com" for n in MANY],
        "hosts_allow": [f"{client} DENY go away" for client in CLIENTS],
        "flat_auth_pw": [f"user{n}@example.com:secret{n}" for n in MANY],
    }
    for name, lines in lists.items():
        (config / name).write_text("\n".join(lines) + "\n")


def certificate(folder):
    """Makes cert.pem and key.pem (ECDSA, P-256) in a folder; their paths."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "30", "-subj", "/CN=mx.example.com", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    return cert, key


def message(size):
    """Lines of a message body as smtp-source sends them, `size` bytes long."""
    line = b"X" * 78 + b"\r\n"
    return (line * (size // len(line) + 1))[:size - 2] + b"\r\n"


def our_environment():
    """Nothing that changes what our daemon finds."""
    drop = ("QPSMTPD_CONFIG", "QMAIL", "PROCESS", "RELAYCLIENT", "DATABYTES")
    return {key: value for key, value in os.environ.items() if key not in drop and not key.startswith("TCP")}
