#!/bin/busybox sh
# The first process of a guest; see initramfs.rs. If it ends before the machine is off, the kernel panics, and that is told.
set -e
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs devices /dev
mount -t proc processes /proc
mount -t sysfs system /sys
for module in /modules/*.ko; do
    # A kernel that has everything built in has none.
    [ -e "$module" ] || continue
    insmod "$module"
done

mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose host /host
mount -t tmpfs -o size=50% memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root

mount -o move /dev /root/dev
mount -o move /proc /root/proc
mount -o move /sys /root/sys
mount -t bpf bpf /root/sys/fs/bpf
# Not what runs on this machine, nor the network namespaces of it.
mount -t tmpfs -o mode=755 run /root/run
mkdir -p /root/dev/pts /root/dev/shm /root/run/share /root/run/lock
mount -t devpts -o mode=620,ptmxmode=666 terminals /root/dev/pts
mount -t tmpfs -o mode=1777 shm /root/dev/shm
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none share /root/run/share
ip link set lo up

chroot /root /bin/sh /run/share/job.sh
sync
poweroff -f
