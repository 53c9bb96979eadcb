# Arguments: the directory of the host, its control group, and the program to end as.
dir=$1 group=$2 holder=$3
new=$dir/mount
mkdir -p "$new"

# Later moved into the leaf: the group itself is the root of what the machine sees.
for group_dir in "/sys/fs/cgroup/$group" /sys/fs/cgroup/*/"$group"; do
    if [ -e "$group_dir" ]; then echo $$ >"$group_dir/cgroup.procs"; fi
done

# Namespaces of other hosts are none of this one's business, and must not be held by it.
if mountpoint --quiet /run/netns; then umount -n --lazy /run/netns; fi
# Without a table of mounts: the directory of that table is hidden with the first line.
mount -n -t tmpfs -o mode=755 run "$new"
mkdir -p "$new/${dir#/run/}" "$new/lock" "$new/netns" "$new/docker/plugins"
mount -n --bind "$dir" "$new/${dir#/run/}"
mount -n --move "$new" /run
mount -n -t tmpfs shm /dev/shm

# Shows the devices of this network namespace, and of control groups its own.
mount -n -t sysfs sysfs "$new"
if [ -e "/sys/fs/cgroup/$group" ]; then
    mount -n --bind "/sys/fs/cgroup/$group" "$new/fs/cgroup"
else
    mount -n -t tmpfs -o mode=755 cgroup "$new/fs/cgroup"
    for group_dir in /sys/fs/cgroup/*/"$group"; do
        hierarchy=$(basename "$(dirname "$group_dir")")
        mkdir "$new/fs/cgroup/$hierarchy"
        mount -n --bind "$group_dir" "$new/fs/cgroup/$hierarchy"
    done
fi
umount -n --lazy /sys
mount -n --move "$new" /sys

for path in etc opt var/lib var/log; do
    disk=$dir/disk/$path
    mkdir -p "$disk/upper" "$disk/work"
    mount -n -t overlay -o "lowerdir=/$path,upperdir=$disk/upper,workdir=$disk/work" overlay "/$path"
done
# Runtimes make overlays of their own, which can't lie on another.
for store in docker containerd containers; do
    mkdir -p "$dir/disk/$store" "/var/lib/$store"
    mount -n --bind "$dir/disk/$store" "/var/lib/$store"
done
# The networks and plugins of the packages are replaced by those of the test.
rm -rf /etc/cni/net.d
mkdir -p /etc/cni/net.d /opt/cni/bin
for plugin in /usr/lib/cni/*; do ln -sf "$plugin" /opt/cni/bin/; done

exec unshare --cgroup sh -euc '
    for leaf in /sys/fs/cgroup/host /sys/fs/cgroup/*/host; do
        if [ -e "$leaf" ]; then echo $$ >"$leaf/cgroup.procs"; fi
    done
    exec "$0" infinity' "$holder"
