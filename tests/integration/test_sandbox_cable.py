"""The cable: all that a command with an uplink tries arrives at the recorder, or cannot be tried at all."""

from __future__ import annotations

import datetime
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from klock.errors import EngineError
from klock.workshop import SandboxWorkshop
from klock.workshop.protocol import Command, Completed, Network, Workspace
from klock.workshop.trust import VARIABLES
from tests.integration import recorder_stand_in
from tests.integration.recorder_stand_in import ADDRESS, StandIn, stand_in
from tests.integration.sandbox_fixtures import BASE, TAR, command, engine_with, shell, unpack
from tests.integration.unprivileged import Account

pytestmark = pytest.mark.integration

NAMES = "import errno, os, socket, struct, ctypes, sys, urllib.request as u\n"


@pytest.fixture(scope="module")
def debian_engine(debian_rootfs_tar: Path) -> Iterator[SandboxWorkshop]:
    """With the programs that are told of the recorder's certificate, pip and apt among them."""
    with engine_with(lambda store: unpack(debian_rootfs_tar, store)) as engine:
        yield engine


def connected(recorder: StandIn, *argv: str, **options: object) -> Command:
    return command(*argv, network=recorder.uplink, **options)  # type: ignore[arg-type]


def python(recorder: StandIn, script: str, **options: object) -> Command:
    return connected(recorder, "python3", "-Bc", NAMES + textwrap.dedent(script), **options)


def run(engine: SandboxWorkshop, script: str) -> tuple[str, list[str]]:
    """The output of a Python program with an uplink, and what the other end noted."""
    with engine.open(BASE, []) as workspace, stand_in() as recorder:
        done = workspace.run(python(recorder, script))
        return done.output.decode(errors="replace"), recorder.notes()


# -- what a command sees


def test_a_name_leads_to_the_recorder(debian_engine: SandboxWorkshop) -> None:
    script = "print(u.urlopen('http://example.org/x?y').read(), socket.gethostbyname('example.org'))"
    output, notes = run(debian_engine, script)
    assert output == f"b'served\\n' {ADDRESS}\n"
    assert notes == ["GET http://example.org/x?y", "name example.org", f"tcp {ADDRESS}:80"]


def test_what_the_network_looks_like(debian_engine: SandboxWorkshop) -> None:
    script = "cat /etc/resolv.conf; cat /etc/hosts; cd /sys/class/net 2>&1; tail -n +3 /proc/net/dev | cut -d: -f1"
    with debian_engine.open(BASE, []) as workspace, stand_in() as recorder:
        done = workspace.run(connected(recorder, "sh", "-c", script)).output.decode()
    lines = done.splitlines()
    assert lines[0] == "nameserver 198.18.0.1"
    assert lines[1:3] == ["127.0.0.1 localhost klock", "::1 localhost ip6-localhost ip6-loopback"]
    assert [line.strip() for line in lines[-2:]] == ["lo", "eth0"]


def test_only_ports_that_were_asked_for_are_served(debian_engine: SandboxWorkshop) -> None:
    script = f"""
        for port in (8080, 80):
            try:
                socket.create_connection(("{ADDRESS}", port)); print("connected")
            except OSError as error: print(error)
    """
    with debian_engine.open(BASE, []) as workspace, stand_in(ports=(8080,)) as recorder:
        done = workspace.run(python(recorder, script)).output.decode()
    assert done == "connected\n[Errno 111] Connection refused\n"


# -- attacks: seen at the other end

TRY = """
def attempt(family, kind, address, protocol=0, options=()):
    try:
        s = socket.socket(family, kind, protocol)
        for option in options: s.setsockopt(*option)
        s.settimeout(5)
        if kind == socket.SOCK_DGRAM: s.sendto(b"x", address)
        else: s.connect(address)
        print("open")
    except OSError as error: print(errno.errorcode.get(error.errno, error))
"""

SEEN = {
    "TCP to another port": ("INET, STREAM, ('203.0.113.5', 22)", ["tcp 203.0.113.5:22"], "ECONNREFUSED"),
    "TCP to a literal address": ("INET, STREAM, ('203.0.113.5', 80)", ["tcp 203.0.113.5:80"], "open"),
    "TCP by way of MPTCP": ("INET, STREAM, ('203.0.113.5', 22), 262", ["tcp 203.0.113.5:22"], "ECONNREFUSED"),
    "UDP": ("INET, DGRAM, ('203.0.113.5', 5000)", ["udp 203.0.113.5:5000"], "open"),
    "another name server": ("INET, DGRAM, ('9.9.9.9', 53)", ["udp 9.9.9.9:53"], "open"),
    "a broadcast": (
        "INET, DGRAM, ('255.255.255.255', 9), 0, [(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)]",
        ["udp 255.255.255.255:9"],
        "open",
    ),
    "multicast": ("INET, DGRAM, ('224.0.0.251', 5353)", ["udp 224.0.0.251:5353"], "open"),
    "the recorder's own address": ("INET, STREAM, ('198.18.0.1', 22)", ["tcp 198.18.0.1:22"], "ECONNREFUSED"),
    "the cloud's metadata": ("INET, STREAM, ('169.254.169.254', 8080)", ["tcp 169.254.169.254:8080"], "ECONNREFUSED"),
    "a private network": ("INET, STREAM, ('192.168.0.1', 22)", ["tcp 192.168.0.1:22"], "ECONNREFUSED"),
    "IPv6": ("INET6, STREAM, ('2001:db8::5', 80)", ["tcp [2001:db8::5]:80"], "ECONNREFUSED"),
    "IPv6 over UDP": ("INET6, DGRAM, ('2001:db8::5', 443)", ["udp [2001:db8::5]:443"], "open"),
    "IPv4 written as IPv6": ("INET6, STREAM, ('::ffff:203.0.113.6', 22)", ["tcp 203.0.113.6:22"], "ECONNREFUSED"),
    "link-local IPv6": (
        "INET6, STREAM, ('fe80::1', 22, 0, socket.if_nametoindex('eth0'))",
        ["tcp [fe80::1]:22"],
        "ENETUNREACH",
    ),
    "multicast IPv6": (
        "INET6, DGRAM, ('ff02::1', 9, 0, socket.if_nametoindex('eth0'))",
        ["udp [ff02::1]:9"],
        "open",
    ),
}


@pytest.mark.parametrize(("arguments", "notes", "outcome"), SEEN.values(), ids=SEEN)
def test_is_seen(debian_engine: SandboxWorkshop, arguments: str, notes: list[str], outcome: str) -> None:
    for name in ("INET6", "INET", "STREAM", "DGRAM"):
        arguments = re.sub(rf"\b{name}\b", f"socket.{'AF' if 'INET' in name else 'SOCK'}_{name}", arguments)
    output, noted = run(debian_engine, f"{TRY}attempt({arguments})")
    assert (output, noted) == (f"{outcome}\n", notes)


def test_what_is_sent_in_the_last_moment_is_seen(debian_engine: SandboxWorkshop) -> None:
    script = "s = socket.socket(2, 2)\nfor port in range(1, 51): s.sendto(b'x', ('203.0.113.5', port))\nos._exit(0)"
    _, noted = run(debian_engine, script)
    assert noted == sorted(f"udp 203.0.113.5:{port}" for port in range(1, 51))


def test_the_host_s_own_addresses_are_not_the_host(debian_engine: SandboxWorkshop) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))
            address = probe.getsockname()[0]
        script = f"{TRY}for a in ('127.0.0.1', '{address}'): attempt(socket.AF_INET, socket.SOCK_STREAM, (a, {port}))"
        output, noted = run(debian_engine, script)
        assert output == "ECONNREFUSED\nECONNREFUSED\n"
        assert noted == [f"tcp {address}:{port}"]
        assert select.select([server], [], [], 0)[0] == []


# -- attacks: impossible

IMPOSSIBLE = {
    "the machine's host (AF_VSOCK)": ("socket.socket(40, socket.SOCK_STREAM)", "EAFNOSUPPORT"),
    "packets (AF_PACKET)": ("socket.socket(17, socket.SOCK_RAW, 768)", "EAFNOSUPPORT"),
    "packets by way of AF_XDP": ("socket.socket(44, socket.SOCK_RAW)", "EAFNOSUPPORT"),
    "the kernel's ciphers (AF_ALG)": ("socket.socket(38, socket.SOCK_SEQPACKET)", "EAFNOSUPPORT"),
    "pairs of TIPC sockets": ("socket.socketpair(30, socket.SOCK_STREAM)", "EAFNOSUPPORT"),
    "raw IPv4": ("socket.socket(socket.AF_INET, socket.SOCK_RAW, 6)", "EPERM"),
    "raw IPv4 with its own header": ("socket.socket(socket.AF_INET, socket.SOCK_RAW, 255)", "EPROTONOSUPPORT"),
    "SCTP": ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)", "EPROTONOSUPPORT"),
    "UDP-Lite": ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)", "EPROTONOSUPPORT"),
    "ping": ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1).sendto(b'x', ('9.9.9.9', 0))", "EACCES"),
    "the firewall's netlink": ("socket.socket(16, socket.SOCK_RAW, 12)", "EPROTONOSUPPORT"),
    # RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWADDR and RTM_SETLINK (eth0 down)
    "a route of its own": ("netlink(24, 0x605, bytes((2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0)))", "EPERM"),
    "removing the route": ("netlink(25, 0x5, bytes((2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0)))", "EPERM"),
    "an address of its own": ("netlink(20, 0x605, struct.pack('=BBBBI', 2, 24, 0, 0, 198))", "EPERM"),
    "taking the cable down": ("netlink(19, 0x5, struct.pack('=BxHiII', 0, 0, 198, 0, 1))", "EPERM"),
    "a new network": ("call('unshare', 0x40000000)", "EPERM"),
    "a new user namespace": ("call('unshare', 0x10000000)", "EPERM"),
    "a new user and network namespace": ("call('unshare', 0x50000000)", "EPERM"),
    "a process in a new user namespace": ("call('syscall', NUMBERS['clone'], 0x10000011, 0, 0, 0, 0)", "EPERM"),
    "the same by clone3": ("call('syscall', 435, 0, 0)", "ENOSYS"),
    "the network of process 1": ("os.open('/proc/1/ns/net', 0)", "EACCES"),
    "its files": ("os.listdir('/proc/1/root/')", "EACCES"),
    "its memory": ("open('/proc/1/mem', 'rb')", "EACCES"),
    "entering its own network anew": ("call('setns', os.open('/proc/self/ns/net', 0), 0)", "EPERM"),
    "sockets by io_uring": ("call('syscall', 425, 8, b'\\0' * 120)", "ENOSYS"),
    "programs in the kernel": ("call('syscall', NUMBERS['bpf'], 0, 0, 0)", "EPERM"),
    "keyrings": ("call('syscall', NUMBERS['keyctl'], 0, -3, 0)", "ENOSYS"),
    "the kernel's log": ("call('klogctl', 10, 0, 0)", "EPERM"),
    "settings of its network": ("open('/proc/sys/net/ipv4/ip_forward', 'w').write('1')", "EROFS"),
    "text for the terminal": ("fcntl.ioctl(0, termios.TIOCSTI, b'x')", "EPERM"),
}

HELPERS = """
import fcntl, platform, termios
NUMBERS = {
    "x86_64": {"clone": 56, "bpf": 321, "keyctl": 250, "socket": 41},
    "aarch64": {"clone": 220, "bpf": 280, "keyctl": 219, "socket": 198},
}[platform.machine()]
def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*(a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)
def netlink(kind, flags, body):
    s = socket.socket(16, socket.SOCK_RAW, 0)
    s.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    error, = struct.unpack_from("=i", s.recv(1000), 16)
    if error: raise OSError(-error, "netlink")
"""


@pytest.mark.parametrize(("statement", "error"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_is_impossible(debian_engine: SandboxWorkshop, statement: str, error: str) -> None:
    script = f"{HELPERS}try:\n  {statement}\n  print('done')\nexcept OSError as e: print(errno.errorcode[e.errno])"
    output, noted = run(debian_engine, script)
    assert output == f"{error}\n"
    assert noted == []


def test_a_command_without_an_uplink_is_held_back_as_well(debian_engine: SandboxWorkshop) -> None:
    script = NAMES + HELPERS
    script += """
def outcome(run):
    try: run()
    except OSError as error: return errno.errorcode[error.errno]
    return "done"
print(outcome(lambda: socket.socket(40, 1)), outcome(lambda: call("syscall", 425, 8, bytes(120))))
print(outcome(lambda: socket.create_connection(("203.0.113.5", 80))))
"""
    with debian_engine.open(BASE, []) as workspace:
        offline = workspace.run(command("python3", "-Bc", script)).output.decode()
        online = workspace.run(command("python3", "-Bc", script, network=Network.HOST)).output.decode()
    assert offline == "EAFNOSUPPORT ENOSYS\nENETUNREACH\n"
    # With the host's network it may do there what the host's own programs may.
    assert online.split()[1] != "ENOSYS"


X86 = """
import ctypes, mmap
def enter(code):
    memory = mmap.mmap(-1, 4096, prot=7)
    memory.write(code)
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
def i386(number, first, second):
    # push rbx; mov eax, ebx and ecx; int 0x80; pop rbx; ret
    words = [value.to_bytes(4, "little") for value in (number, first, second)]
    return enter(b"\\x53\\xb8%b\\xbb%b\\xb9%b\\xcd\\x80\\x5b\\xc3" % tuple(words))
def x32(number, first, second, third):
    words = [value.to_bytes(4, "little") for value in (number | 1 << 30, first, second, third)]
    # mov eax, edi, esi and edx; syscall; ret
    return enter(b"\\xb8%b\\xbf%b\\xbe%b\\xba%b\\x0f\\x05\\xc3" % tuple(words))
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls of another kind exist on x86_64 alone")
def test_system_calls_of_another_kind(debian_engine: SandboxWorkshop) -> None:
    script = f"{X86}print(x32(41, 40, 1, 0), x32(41, 2, 1, 0), flush=True)\nprint(i386(359, 40, 1), i386(102, 1, 0))"
    output, noted = run(debian_engine, script)
    # ENOSYS for all of x32. i386: EAFNOSUPPORT for the new call, ENOSYS for socketcall; a kernel without it kills.
    assert output in ("-38 -38\n-97 -38\n", "-38 -38\n")
    assert noted == []


def test_the_host_s_abstract_sockets(debian_engine: SandboxWorkshop) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0klock-{os.getpid()}")
        server.listen()
        script = f"{TRY}attempt(socket.AF_UNIX, socket.SOCK_STREAM, '\\0klock-{os.getpid()}')"
        assert run(debian_engine, script) == ("ECONNREFUSED\n", [])


# -- the command's own servers

OWN_SERVERS = """
for family, listen, connect in (
    (socket.AF_INET, "0.0.0.0", "127.0.0.1"), (socket.AF_INET, "0.0.0.0", "198.18.0.2"),
    (socket.AF_INET, "127.0.0.1", "localhost"), (socket.AF_INET6, "::", "::1"), (socket.AF_INET6, "::1", "::1"),
):
    for port in (80, 443, 8000):
        with socket.create_server((listen, port), family=family) as server:
            socket.create_connection((connect, port)).sendall(b"x")
            assert server.accept()[0].recv(1) == b"x"
print("served")
"""


@pytest.mark.parametrize("user", ["", "nobody"])
def test_its_own_servers_work_and_are_nobody_else_s_business(debian_engine: SandboxWorkshop, user: str) -> None:
    with debian_engine.open(BASE, []) as workspace, stand_in() as recorder:
        done = workspace.run(python(recorder, OWN_SERVERS, user=user))
        assert (done.output.decode(), recorder.notes()) == ("served\n", [])


@pytest.mark.parametrize("user", ["", "nobody"])
def test_without_a_network_they_work_as_well(debian_engine: SandboxWorkshop, user: str) -> None:
    script = NAMES + OWN_SERVERS.replace('(socket.AF_INET, "0.0.0.0", "198.18.0.2"),', "")
    with debian_engine.open(BASE, []) as workspace:
        assert workspace.run(command("python3", "-Bc", script, user=user)).output == b"served\n"


# -- beginnings and ends


def test_a_recorder_that_ends_too_early(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace, stand_in(deaf=True) as recorder:
        with pytest.raises(EngineError, match=r"^the recorder ended before the command could start$"):
            workspace.run(connected(recorder, "touch", "/opt/started"))
        assert workspace.read("/opt/started") is None


def test_a_recorder_that_was_gone_before(debian_engine: SandboxWorkshop) -> None:
    with debian_engine.open(BASE, []) as workspace, stand_in() as recorder:
        recorder.kill()
        with pytest.raises(EngineError, match=r"^the recorder ended before the command could start$"):
            workspace.run(connected(recorder, "true"))


def test_a_command_reaches_nothing_once_the_recorder_is_dead(debian_engine: SandboxWorkshop) -> None:
    script = f"""
        s = socket.create_connection(("{ADDRESS}", 80))
        print("connected", flush=True)
        s.settimeout(30)
        try: print(s.recv(1) or "end")
        except OSError as error: print(errno.errorcode[error.errno])
        while os.path.exists("/proc/net/dev") and "eth0" in open("/proc/net/dev").read(): pass
        try: socket.create_connection(("{ADDRESS}", 80))
        except OSError as error: print(errno.errorcode[error.errno])
        try: socket.getaddrinfo("example.org", 80)
        except OSError as error: print(type(error).__name__)
    """
    with debian_engine.open(BASE, []) as workspace, stand_in() as recorder:
        done = workspace.run(python(recorder, script), on_output=lambda _: _once(recorder))
    lines = done.output.decode().splitlines()
    assert lines[0] == "connected"
    assert lines[1] in ("end", "ECONNRESET", "ENETUNREACH", "ENETDOWN", "EHOSTUNREACH")
    assert lines[2:] == ["ENETUNREACH", "gaierror"]


def _once(recorder: StandIn) -> None:
    with suppress(ProcessLookupError):
        os.kill(recorder.pid, signal.SIGKILL)


# -- accounts, and klock's own death

SESSION = """
import hashlib, os, sys
from pathlib import Path
from klock.workshop.protocol import BaseLayer, Command
from klock.workshop import SandboxWorkshop
from klock.store import Store
from recorder_stand_in import stand_in

engine = SandboxWorkshop(Store())
base = "sha256:" + "1" * 64
with open(sys.argv[1], "rb") as file:
    digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
engine.add_base(base, [BaseLayer(path=Path(sys.argv[1]), media_type=TAR, diff_id=digest)])
with engine.open(base, []) as workspace, stand_in() as recorder:
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    argv = ("python3", "-Bc", sys.argv[2])
    command = Command(argv=argv, environment={"PATH": path}, network=recorder.uplink)
    print(os.getpid(), recorder.pid, flush=True)
    done = workspace.run(command, on_output=lambda chunk: print(chunk.decode(), end="", flush=True))
    print(done.status, recorder.notes(), workspace.snapshot().digest)
"""

FETCH = """
import socket, urllib.request
print(urllib.request.urlopen("http://example.org/").read())
socket.socket(2, 2).sendto(b"x", ("203.0.113.5", 9))
open("/opt/made", "w").write("x")
"""

FETCHED = "['GET http://example.org/', 'name example.org', 'tcp 198.18.100.1:80', 'udp 203.0.113.5:9']"


def session(account: Account, rootfs: Path, script: str) -> tuple[list[str | Path], Path, dict[str, str]]:
    """What runs a Python program with an uplink as another account: the command line, its folder, its variables."""
    folder = account.make_folder("session")
    shutil.copy(recorder_stand_in.__file__, folder)
    (folder / "recorder_stand_in.py").chmod(0o644)
    argv: list[str | Path] = [account.python, "-c", SESSION.replace("TAR", repr(TAR)), rootfs, script]
    return argv, folder, {"PYTHONPATH": f"{account.source}:{folder}"}


@pytest.mark.parametrize("nested", [False, True], ids=["on the host", "in an empty network"])
def test_as_every_account(
    account: Account, debian_engine: SandboxWorkshop, debian_rootfs_tar: Path, nested: bool
) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "printf x > /opt/made")
        expected = workspace.snapshot().digest
    argv, folder, variables = session(account, debian_rootfs_tar, FETCH)
    if nested and account.uid == 0:
        argv = ["unshare", "--net", "--", *argv]
    elif nested:
        argv = ["unshare", "--user", "--map-root-user", "--map-auto", "--net", "--", *argv]
    done = account.run(argv, cwd=folder, env=variables)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "b'served\\n'"
    # One layer, whoever made it and where.
    assert lines[2] == f"0 {FETCHED} {expected}"


def test_when_klock_dies_so_does_everything(account: Account, debian_rootfs_tar: Path) -> None:
    script = "import time\nprint('started', flush=True)\nwhile True: time.sleep(1)"
    argv, folder, variables = session(account, debian_rootfs_tar, script)
    process = subprocess.Popen(
        [os.fspath(argument) for argument in argv],
        cwd=folder,
        env=account.environment | variables,
        stdout=subprocess.PIPE,
        text=True,
        user=account.uid if account.is_another else None,
        group=account.gid if account.is_another else None,
        extra_groups=[] if account.is_another else None,
    )
    assert process.stdout is not None
    try:
        klock, recorder = map(int, process.stdout.readline().split())
        assert process.stdout.readline() == "started\n"
        pids = descendants(klock)
        # The recorder, the namespace process, bubblewrap, the command.
        assert len(pids) >= 4
        assert recorder in pids
        watched = [os.pidfd_open(pid) for pid in pids]
        os.kill(klock, signal.SIGKILL)
        for descriptor in watched:
            assert select.select([descriptor], [], [], 30)[0], "a process outlived klock"
            os.close(descriptor)
    finally:
        process.kill()
        process.communicate()


def descendants(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [below for child in found for below in descendants(child)]


def test_a_machine_that_allows_no_network_namespaces(unprivileged: Account, debian_rootfs_tar: Path) -> None:
    argv, folder, variables = session(unprivileged, debian_rootfs_tar, FETCH)
    enter = 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$0" "$@"'
    argv = ["unshare", "--user", "--map-root-user", "--map-auto", "--mount", "sh", "-euc", enter, *argv]
    done = unprivileged.run(argv, cwd=folder, env=variables)
    assert (
        "EngineError: this machine does not let klock make a network namespace: No space left on device" in done.stderr
    )


# -- trust


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """The certificate of an authority (PEM), and a file with a key and a certificate for example.org that it signed."""
    folder = tmp_path_factory.mktemp("authority")

    def certificate(
        subject: str, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey, *, is_authority: bool
    ) -> bytes:
        def name(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        builder = x509.CertificateBuilder(
            issuer_name=name("the authority of the tests"),
            subject_name=name(subject),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=datetime.datetime(2000, 1, 1),
            not_valid_after=datetime.datetime(2099, 1, 1),
        ).add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        if not is_authority:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = folder / "chain.pem"
    chain.write_bytes(
        theirs.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate("example.org", theirs, ours, is_authority=False)
    )
    return certificate("the authority of the tests", ours, ours, is_authority=True), chain


@pytest.fixture
def trusted(authority: tuple[bytes, Path]) -> Iterator[StandIn]:
    with stand_in(certificate=authority[0], chain=authority[1]) as recorder:
        yield recorder


GET = "import urllib.request as u; print(u.urlopen('https://example.org/').read())"

TRUSTING = {
    "Python": ("python3", "-Bc", GET),
    "Python without variables": ("env", "-i", "/usr/bin/python3", "-Bc", GET),
    "Python as another user": ("su", "nobody", "-s", "/bin/sh", "-c", f'env -i /usr/bin/python3 -Bc "{GET}"'),
    "openssl without variables": (
        "env",
        "-i",
        "/bin/sh",
        "-c",
        "printf 'GET / HTTP/1.0\\r\\nHost: example.org\\r\\n\\r\\n' | "
        "openssl s_client -quiet -verify_return_error -connect example.org:443 -servername example.org",
    ),
    "apt": (
        "sh",
        "-euc",
        "rm -rf /etc/apt/sources.list*; echo 'deb [trusted=yes] https://example.org/ ./' > /etc/apt/sources.list;"
        "apt-get update -o Debug::NoLocking=1 2>&1 | grep -i -e certificate && exit 1; echo served",
    ),
}


@pytest.mark.parametrize("argv", TRUSTING.values(), ids=TRUSTING)
def test_trusts_the_recorder(debian_engine: SandboxWorkshop, trusted: StandIn, argv: Sequence[str]) -> None:
    with debian_engine.open(BASE, []) as workspace:
        done = workspace.run(connected(trusted, *argv))
    assert b"served" in done.output, done.output.decode()
    assert any(note.startswith("GET https://example.org/") for note in trusted.notes())


def test_the_variables_are_the_engine_s(debian_engine: SandboxWorkshop, trusted: StandIn) -> None:
    script = "import os; print(sorted(k for k, v in os.environ.items() if v == '/run/klock/ca.pem'))"
    mine = {"SSL_CERT_FILE": "/mine.pem", "PIP_CERT": "/mine.pem"}
    with debian_engine.open(BASE, []) as workspace:
        assert workspace.run(python(trusted, script, environment=mine)).output.decode() == f"{sorted(VARIABLES)}\n"


def test_what_the_image_tells_apt_and_wget_stays_in_force(debian_engine: SandboxWorkshop, trusted: StandIn) -> None:
    variables = {"APT_CONFIG": "/etc/mine.conf", "WGETRC": "/etc/mine.wgetrc"}
    script = "apt-config dump | grep -e Retries -e CAInfo -e Check-Date; cat $WGETRC"
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "echo 'Acquire::Retries 7;' > /etc/mine.conf; printf 'tries = 7' > /etc/mine.wgetrc")
        done = workspace.run(connected(trusted, "sh", "-c", script, environment=variables)).output.decode()
    assert done.splitlines() == [
        'Acquire::Retries "7";',
        'Acquire::https::CAInfo "/run/klock/ca.pem";',
        'Acquire::Check-Date "false";',
        "tries = 7",
        "ca_certificate = /run/klock/ca.pem",
    ]


BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def with_bundle(workspace: Workspace, recorder: StandIn, script: str) -> Completed:
    done = workspace.run(connected(recorder, "sh", "-euc", script))
    assert done.status == 0, done.output.decode()
    return done


def test_the_tree_looks_as_ever_but_for_the_bundle(debian_engine: SandboxWorkshop, trusted: StandIn) -> None:
    script = f"stat -c '%n %a %u %g %Y %F' / /etc /etc/ssl /etc/ssl/certs {BUNDLE}; ls -A / /etc/ssl /etc/ssl/certs"
    with debian_engine.open(BASE, []) as workspace:
        assert with_bundle(workspace, trusted, script) == workspace.run(command("sh", "-c", script))
        assert list(workspace.snapshot().manifest) == []


UNTRACED = {
    "files beside it": (
        "touch /etc/new /etc/ssl/new /etc/ssl/certs/new",
        ["etc/new", "etc/ssl/certs/new", "etc/ssl/new"],
    ),
    "rights that are set to what they are": ("chmod -R u+r /etc/ssl; chown -R 0 /etc/ssl", []),
    "a bundle that is opened": (f"exec 3<>{BUNDLE}", []),
    "the package's own script": (
        "update-ca-certificates --fresh; dpkg-reconfigure -f noninteractive ca-certificates",
        [],
    ),
    "a bundle that is removed": (f"rm {BUNDLE}", [BUNDLE.strip("/")]),
}


@pytest.mark.parametrize(("script", "changed"), UNTRACED.values(), ids=UNTRACED)
def test_leaves_no_trace_of_the_certificate(
    debian_engine: SandboxWorkshop, trusted: StandIn, script: str, changed: list[str]
) -> None:
    body = trusted.uplink.certificate.split(b"\n")[2]
    with debian_engine.open(BASE, []) as workspace:
        with_bundle(workspace, trusted, script)
        assert workspace.find([body]) == []
        assert list(workspace.snapshot().manifest) == changed


def test_a_bundle_that_a_step_changes_has_its_changes_alone(debian_engine: SandboxWorkshop, trusted: StandIn) -> None:
    with debian_engine.open(BASE, []) as workspace:
        before = workspace.read(BUNDLE)
        with_bundle(workspace, trusted, f"echo mine >> {BUNDLE}; chown 1:1 {BUNDLE}; grep -c mine {BUNDLE}")
        after = workspace.read(BUNDLE)
        entry = workspace.snapshot().manifest[BUNDLE.strip("/")]
    assert before is not None
    assert after == before + b"mine\n"
    assert (entry.uid, entry.gid, entry.mode) == (1, 1, 0o644)


def test_a_copy_of_the_bundle_is_found(debian_engine: SandboxWorkshop, trusted: StandIn) -> None:
    body = trusted.uplink.certificate.split(b"\n")[2]
    with debian_engine.open(BASE, []) as workspace:
        with_bundle(workspace, trusted, f"cp {BUNDLE} /opt/copy; cp $SSL_CERT_FILE /opt/other")
        assert workspace.find([b"no such value", body]) == ["/opt/copy", "/opt/other"]


def test_a_tree_without_bundles_stays_without(debian_engine: SandboxWorkshop, trusted: StandIn) -> None:
    with debian_engine.open(BASE, []) as workspace:
        shell(workspace, "rm -r /etc/ssl")
        workspace.snapshot()
        done = workspace.run(connected(trusted, "sh", "-c", "ls /etc/ssl; cat $SSL_CERT_FILE"))
        assert done.output.endswith(trusted.uplink.certificate)
        assert b"No such file" in done.output
        assert list(workspace.snapshot().manifest) == []
