#!/bin/sh
# Before the removal, for deb (remove) and rpm (0). An upgrade restarts the daemon afterwards.
set -e
case "$1" in
remove | 0) ;;
*) exit 0 ;;
esac
command -v systemctl >/dev/null || exit 0
[ ! -d /run/systemd/system ] || systemctl stop anode.service
systemctl -q disable anode.service
# dpkg calls the next installation an upgrade while the configuration is there.
[ "$1" != remove ] || [ ! -d /etc/anode ] || : >/etc/anode/.removed
