#!/bin/sh
# The first process of a new disk: configures the unpacked packages, then gives its place to systemd for good.
# Every step can be repeated, so an interrupted first boot continues at the next start.
export PATH=/usr/lib/tearless/shortcuts:/usr/sbin:/usr/bin
export HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true
here=/usr/lib/tearless
log=/var/log/first-boot.log

mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mountpoint -q /run || mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mount -o remount,rw /
mkdir -p /run/lock
umask 022

total=$(cat $here/count)
echo "Tearless: first boot, setting up $total packages (later boots are quick)"

while read -r package; do
    DPKG_MAINTSCRIPT_PACKAGE=${package%%:*} DPKG_MAINTSCRIPT_NAME=preinst \
        /var/lib/dpkg/info/$package.preinst install >>$log 2>&1
done <$here/preinst

(dpkg --configure -a --force-unsafe-io 2>&1 && echo ok >$here/done) | while read -r line; do
    echo "$line" >&3
    case $line in
        "Setting up "*)
            count=$((count + 1))
            set -- $line
            echo "Setting up $count/$total $3"
            ;;
    esac
done 3>>$log

if [ ! -e $here/done ]; then
    echo "Tearless: some packages could not be set up; the next boot tries again. The end of $log:"
    tail -n 15 $log
    exec /usr/lib/systemd/systemd
fi

rm -f /usr/sbin/policy-rc.d
ln -sf ../lib/systemd/systemd /usr/sbin/init
[ -s /etc/machine-id ] || systemd-machine-id-setup >>$log 2>&1
touch /etc/.updated /var/.updated
rm -rf $here
sync
echo "Tearless: first boot done"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
unset DEBIAN_FRONTEND DEBCONF_NONINTERACTIVE_SEEN LC_ALL
exec /usr/sbin/init
