#!/bin/sh
# The first process of a new disk: configures the unpacked packages, then gives its place to systemd for good.
# Every step can be repeated, so an interrupted first boot continues at the next start.
here=/usr/lib/tearless
log=/var/log/first-boot.log
# The shortcuts are programs whose work the host has done already, or that describe hardware no virtual machine has.
export PATH=$here/shortcuts:/usr/sbin:/usr/bin
# systemctl has no systemd to talk to: it only makes links.
export SYSTEMD_OFFLINE=1
export HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true

mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mountpoint -q /run || mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run
mount -o remount,rw /
mkdir -p /run/lock
umask 022

# Answers the questions of the packages' scripts (the debconf protocol) with their defaults, which the host has laid out
# as files. debconf itself would start a perl for each package.
answer() {
    while read -r command name value; do
        file=$here/answers/$name
        case $command in
            GET)
                if [ -e "$file" ]; then
                    read -r value <"$file"
                    echo "0 $value"
                else
                    echo "10 $name does not exist"
                fi
                ;;
            SET)
                mkdir -p "${file%/*}"
                echo "$value" >"$file"
                echo "0 value set"
                ;;
            VERSION) echo "0 2.0" ;;
            FGET) echo "0 true" ;;
            INPUT) echo "30 question skipped" ;;
            STOP) ;;
            *) echo "0 " ;;
        esac
    done
}
rm -f /run/questions /run/answers
mkfifo /run/questions /run/answers
exec 3<>/run/questions 4<>/run/answers
answer <&3 >&4 &
export DEBIAN_HAS_FRONTEND=1 DEBCONF_REDIR=1

total=$(cat $here/count)
echo "Tearless: first boot, setting up $total packages (later boots are quick)"

while read -r package <&5; do
    DPKG_MAINTSCRIPT_PACKAGE=${package%%:*} DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_ARCH=arm64 \
        /var/lib/dpkg/info/$package.preinst install <&4 >>$log 2>&1
done 5<$here/preinst

(dpkg --configure -a --force-confold <&4 2>&1 && : >$here/done) | while read -r line; do
    echo "$line" >&6
    case $line in
        "Setting up "*)
            count=$((count + 1))
            line=${line#Setting up }
            echo "Setting up $count/$total ${line%% *}"
            ;;
    esac
done 6>>$log

# Puts the boot loader where the distribution has it, and removes what started the first boot. The question is asked again
# at each upgrade: firmware without our boot entry finds the loader at the removable media's path.
loader() {
    export PATH=/usr/sbin:/usr/bin
    mountpoint -q /boot/efi || mount /boot/efi || return
    mountpoint -q /sys/firmware/efi/efivars || mount -t efivarfs efivarfs /sys/firmware/efi/efivars
    # What udev would do: GRUB names the root file system to the kernel by what it is, not by where.
    root=$(findmnt -no SOURCE /)
    mkdir -p /dev/disk/by-uuid
    ln -sf "$root" "/dev/disk/by-uuid/$(blkid -s UUID -o value "$root")"
    for modules in /usr/lib/modules/*; do
        [ -e "/boot/initrd.img-${modules##*/}" ] || update-initramfs -c -k "${modules##*/}" || return
    done
    env -u DEBIAN_HAS_FRONTEND -u DEBCONF_REDIR debconf-set-selections <<END || return
grub-efi-arm64 grub2/force_efi_extra_removable boolean true
END
    grub-install --target=arm64-efi --force-extra-removable && update-grub || return
    sync
    rm -rf /boot/efi/first-boot
    umount /boot/efi
}
if [ -e $here/done ] && [ -e $here/loader ]; then
    echo "Tearless: installing the boot loader"
    loader <&4 >>$log 2>&1 || rm $here/done
fi

if [ ! -e $here/done ]; then
    echo "Tearless: some packages could not be set up; the next boot tries again. The end of $log:"
    tail -n 15 $log
    exec /usr/lib/systemd/systemd
fi

[ ! -e /etc/ssl/certs/ca-certificates.crt ] || openssl rehash /etc/ssl/certs >>$log 2>&1
[ -s /etc/machine-id ] || systemd-machine-id-setup >>$log 2>&1
ln -sf ../lib/systemd/systemd /usr/sbin/init
touch /etc/.updated /var/.updated
rm -rf $here /run/questions /run/answers
sync
echo "Tearless: first boot done"
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin TERM="$TERM" /usr/sbin/init 3>&- 4>&-
