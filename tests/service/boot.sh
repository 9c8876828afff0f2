#!/bin/sh
# Boots systemd as the first process of a container: boot.sh PROJECT PROGRAMS, as root.
#
# The container has the files of this machine beneath a layer in memory that takes what is written, and a network of its
# own with nothing but the loopback device. PROJECT and PROGRAMS are folders that it finds as /src and /programs. The
# first line of output is the number of the container's first process out here. All ends with standard input.
set -eu
# Whoever starts this may be interrupted; then its standard input ends.
trap '' INT TERM HUP
case "${3-}" in
"")
    # A mount table of its own, which nobody has to tidy up.
    exec unshare --mount --propagation private -- "$0" "$1" "$2" table
    ;;
table)
    mount -t tmpfs tmpfs /mnt
    cd /mnt
    mkdir upper work root groups
    # A control group of its own, or systemd would take over the machine's.
    mount -t cgroup2 cgroup2 groups
    group=groups/qpsmtpd-test-$$
    mkdir $group
    (
        sh -c 'echo $PPID' >$group/cgroup.procs
        exec unshare --pid --mount --cgroup --ipc --uts --net --propagation private -- "$0" "$1" "$2" around
    )
    find $group -depth -type d -exec rmdir {} \;
    ;;
around)
    # The first child is the first process of the new namespace, and takes all others along.
    "$0" "$1" "$2" inside </dev/null &
    echo $!
    read -r _ || :
    kill -KILL $!
    wait $! 2>/dev/null || :
    ;;
inside)
    cd /mnt
    mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
    cd root
    mkdir -p src programs
    mount --bind "$1" src
    mount --bind "$2" programs
    # Nothing of the kernel can be changed from within.
    mount -t proc proc proc
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    mount -t tmpfs tmpfs run
    mount -t tmpfs -o mode=1777 tmpfs tmp
    mount -t tmpfs tmpfs dev
    for name in null zero full random urandom tty; do
        : >dev/$name
        mount --bind /dev/$name dev/$name
    done
    mkdir dev/pts
    mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
    ln -s pts/ptmx dev/ptmx
    pivot_root . mnt
    umount -l /mnt
    exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --system --unit=basic.target --log-target=console --log-level=warning --show-status=0
    ;;
esac
